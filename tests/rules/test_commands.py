# SPDX-License-Identifier: Apache-2.0
"""Every command of README and the documents is typed by a test, or a list says why it is not."""

import re

import pytest

from tests.lab.package import TOOLS, packages_of
from tests.rules.commands import NOT_TYPED, PAGES, TYPED_BY, Command, commands_of, lines_to_commands, typed_in_the_lab
from tests.rules.literals import literals
from tests.rules.project import none_of

ALL = [command for page in PAGES for command in commands_of(page)]


def test_the_pages_have_commands_and_the_lab_types_most_of_them() -> None:
    typed = [command for page in PAGES for command in typed_in_the_lab(page)]
    assert len(ALL) > 120
    assert len(typed) > 0.7 * len(ALL)


@pytest.mark.parametrize("start", [*TYPED_BY, *NOT_TYPED])
def test_a_command_that_the_lab_does_not_type_is_in_a_page(start: str) -> None:
    assert [command for command in ALL if command.text.startswith(start)]


@pytest.mark.parametrize(("start", "test"), TYPED_BY.items())
def test_the_test_that_types_a_command_has_it_in_its_source(start: str, test: str) -> None:
    assert start.strip() in literals(test)


@pytest.mark.parametrize(
    ("start", "test"),
    [
        ("make demo", "tests/lab/test_readme.py::no_such_test"),
        ("make demo", "tests/lab/test_readme.py::test_make_lab_opens_a_shell_on_a_host_that_has_converged"),
        ("nmcli ", "tests/lab/test_autoconf.py::test_a_released_pf_takes_what_the_router_advertises"),
    ],
)
def test_another_test_does_not_count_as_the_one_that_types_it(start: str, test: str) -> None:
    assert start.strip() not in literals(test)


def test_the_pages_install_what_the_package_is_built_with() -> None:
    """`make deb` runs in the lab with TOOLS. `provided`: by build-essential, debhelper and dh-python."""
    provided = {"debhelper-compat", "dh-sequence-python3", "dpkg-dev", "make", "python3"}
    needed = {*TOOLS, *packages_of("Build-Depends")} - provided - {"lintian", "rpm", "rpmlint"}
    lines = [command for command in ALL if command.text.startswith("apt install build-essential")]
    assert {command.page for command in lines} == {"README.md", "docs/install.md"}
    none_of([f"{line.page}: {name}" for line in lines for name in sorted(needed) if name not in line.text.split()])


def test_each_here_document_is_one_command() -> None:
    lines = ["cat >a <<end", "vfagent list", "end", "vfagent plan      # a comment"]
    assert list(lines_to_commands(lines)) == ["cat >a <<end\nvfagent list\nend", "vfagent plan"]


def test_configuration_and_fenced_blocks_are_no_commands() -> None:
    assert not [command for command in ALL if re.match(r"\[|<|[a-z_]+ = ", command.text)]
    assert Command("README.md", "make demo") in ALL
