# SPDX-License-Identifier: Apache-2.0
"""Fixtures that read a policy from text."""

from collections.abc import Callable
from pathlib import Path

import pytest

from vfagent.errors import PolicyError
from vfagent.policy.types import Policy
from vfagent.store.policy_files import load_files

Problems = Callable[[str], list[str]]
Parse = Callable[[str], Policy]


@pytest.fixture
def parse(tmp_path: Path) -> Parse:
    def parsed(text: str) -> Policy:
        path = tmp_path / "policy.toml"
        path.write_text(text)
        return load_files([path])

    return parsed


@pytest.fixture
def problems(parse: Parse, tmp_path: Path) -> Problems:
    """The problems of a text, without the folder of its file."""

    def problem_lines(text: str) -> list[str]:
        try:
            parse(text)
        except PolicyError as error:
            return [line.replace(f"{tmp_path}/", "") for line in error.problems]
        return []

    return problem_lines
