# SPDX-License-Identifier: Apache-2.0
"""The manual agrees with the policy's declarations."""

import subprocess
import sys
from pathlib import Path

from vfagent.policy.document import page_with_reference

PAGE = Path(__file__).parents[3] / "packaging" / "man" / "vfagent.toml.5.md"


def test_the_manual_has_the_current_key_reference() -> None:
    page = PAGE.read_text()
    assert page == page_with_reference(page), f"run: python3 -m vfagent.policy.document <{PAGE.name}"


def test_importing_the_policy_does_not_load_difflib_or_ipaddress() -> None:
    code = (
        "import sys, vfagent.policy.reading; print([name for name in ('difflib', 'ipaddress') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
