# SPDX-License-Identifier: Apache-2.0
"""What the tests and the site install from PyPI has hashes, so that PyPI can give nothing else."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.environment import PINNED, REQUIREMENTS
from tests.rules.project import ROOT, none_of

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FILES = [REQUIREMENTS, ROOT / "tests/lab/ansible.txt", ROOT / "packaging/site/requirements.txt"]


def pins(path: Path) -> dict[str, tuple[str, int]]:
    """Version and number of hashes by name; continuation lines joined, as pip reads them."""
    text = re.sub(r"(?m)^#.*\n", "", path.read_text()).replace("\\\n", " ")
    line = re.compile(r"([a-z0-9.-]+)==(\S+)((?: +--hash=sha256:[0-9a-f]{64})*)")
    matches = [(text, line.fullmatch(text)) for text in text.splitlines()]
    none_of([f"{path.name}: {text}" for text, match in matches if not match])
    return {match[1]: (match[2], match[3].count("--hash")) for _, match in matches if match}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.name))
def test_each_package_has_one_version_and_hashes(path: Path) -> None:
    assert len(pins(path)) > 20
    none_of([name for name, (_, hashes) in pins(path).items() if not hashes])
    assert "--require-hashes" in PINNED


def test_the_packages_of_the_project_are_the_pinned_ones() -> None:
    pinned = pins(REQUIREMENTS)
    wanted = [*PROJECT["optional-dependencies"]["dev"], *PROJECT["dependencies"]]
    names = [re.split(r"[=>]=", requirement) for requirement in wanted]
    none_of([name for name, _ in names if name not in pinned and name != "systemd-python"])
    none_of(
        [
            text
            for text in PROJECT["optional-dependencies"]["dev"]
            if text.split("==")[1] != pinned[text.split("==")[0]][0]
        ]
    )


def test_what_the_tests_install_from_pypi_is_pinned() -> None:
    files = [
        path for path in (ROOT / "tests").rglob("*.py") if re.search(r'"pip",.*"(install|download)"', path.read_text())
    ]
    assert len(files) > 2
    none_of([str(path.relative_to(ROOT)) for path in files if "PINNED" not in path.read_text()])
