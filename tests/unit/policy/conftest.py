# SPDX-License-Identifier: Apache-2.0
"""Fixtures that read a policy from text."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vfagent.errors import PolicyError
from vfagent.policy.problems import Problem
from vfagent.policy.types import Policy
from vfagent.policy.warnings import warnings
from vfagent.store.policy_files import load_files, load_merged_files

Problems = Callable[[str], list[str]]
Parse = Callable[[str], Policy]
Warned = Callable[[str], list[str]]


@pytest.fixture
def parse(tmp_path: Path) -> Parse:
    def parsed(text: str) -> Policy:
        path = tmp_path / "policy.toml"
        path.write_text(text)
        return load_files([path])

    return parsed


@pytest.fixture
def problems(parse: Parse, tmp_path: Path) -> Problems:
    """The problems of a text, without the folder of its file; the keys with numbers, as in JSON."""

    def problem_lines(text: str) -> list[str]:
        try:
            parse(text)
        except PolicyError as error:
            numbered = [
                replace(item, rule="", named="") if isinstance(item, Problem) else item for item in error.reported
            ]
            return [str(item).replace(f"{tmp_path}/", "") for item in numbered]
        return []

    return problem_lines


@pytest.fixture
def warned(tmp_path: Path) -> Warned:
    """The warnings of a valid text, without the folder of its file."""

    def warning_lines(text: str) -> list[str]:
        path = tmp_path / "policy.toml"
        path.write_text(text)
        return [str(warning).replace(f"{tmp_path}/", "") for warning in warnings(load_merged_files([path]))]

    return warning_lines
