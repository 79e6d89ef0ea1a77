# SPDX-License-Identifier: Apache-2.0
"""What `check` says of mistakes, as texts: `pytest tests/unit/policy --regenerate` writes the answers."""

import re
from pathlib import Path

import pytest

from vfagent.errors import PolicyError
from vfagent.policy.warnings import warnings
from vfagent.store.policy_files import load_merged_files

FOLDER = Path(__file__).with_name("mistakes")
ANSWER = "--> "


def answers(folder: Path, content: bytes) -> list[str]:
    path = folder / "policy.toml"
    path.write_bytes(content)
    try:
        lines = [f"note: {warning}" for warning in warnings(load_merged_files([path]))] or ["valid"]
    except PolicyError as error:
        lines = [str(problem) for problem in error.reported]
    return [f"{ANSWER}{line}".replace(f"{folder}/", "") for line in lines]


def content(title: str, lines: list[str]) -> bytes:
    text = "".join(f"{line}\n" for line in lines)
    return text.encode().decode("unicode_escape").encode("latin-1") if title.endswith("(bytes)") else text.encode()


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.iterdir()))
def test_a_mistake_is_answered_as_in_its_golden_text(name: str, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    path, written = FOLDER / name, list[str]()
    for case in re.split(r"(?m)^=== ", path.read_text())[1:]:
        title, *lines = case.splitlines()
        policy = [line for line in lines if not line.startswith(ANSWER)]
        written += [f"=== {title}", *policy, *answers(tmp_path, content(title, policy))]
    if pytestconfig.getoption("--regenerate", default=False):
        path.write_text("\n".join(written) + "\n")
    assert written == path.read_text().splitlines()
