# SPDX-License-Identifier: Apache-2.0
"""Policies as files under a root."""

from pathlib import Path

import pytest

from vfagent.errors import PolicyError
from vfagent.policy.types import Policy
from vfagent.store.policy_files import load


def write(root: Path, name: str, content: str | bytes) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def bridge(name: str) -> str:
    return f'[[bridge]]\nname = "{name}"\n'


def bridges(policy: Policy) -> list[str]:
    return [rule.name for rule in policy.bridge]


def problems(root: Path) -> list[str]:
    """The problems below `root`, with paths relative to it."""
    with pytest.raises(PolicyError) as caught:
        load(root)
    return [line.replace(f"{root}/", "/") for line in caught.value.problems]
