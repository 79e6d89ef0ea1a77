# SPDX-License-Identifier: Apache-2.0
"""The tools that check the source: ruff, mypy, codespell, and an import of each benchmark."""

import sys

import pytest

from tests.rules.project import ROOT, passes

PROSE = ("vfagent", "tests", "docs", "config", "packaging", "systemd", "udev", "Makefile", "pyproject.toml")


def test_the_code_is_formatted() -> None:
    passes(sys.executable, "-m", "ruff", "format", "--check", "--quiet", "--diff", ".")


def test_ruff_finds_nothing() -> None:
    passes(sys.executable, "-m", "ruff", "check", "--quiet", ".")


def test_mypy_finds_nothing() -> None:
    passes(sys.executable, "-m", "mypy")


def test_the_spelling_is_right() -> None:
    documents = [path.name for path in ROOT.glob("*.md")]
    passes(sys.executable, "-m", "codespell_lib", "--skip=*/__pycache__/*,*/evidence/*", *PROSE, *documents)


@pytest.mark.parametrize("program", sorted(path.stem for path in (ROOT / "tests/bench").glob("*.py")))
def test_each_benchmark_can_be_imported(program: str) -> None:
    passes(sys.executable, "-c", f"import tests.bench.{program}")
