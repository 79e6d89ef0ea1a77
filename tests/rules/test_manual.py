# SPDX-License-Identifier: Apache-2.0
"""The manual pages: they render, and vfagent(8) has every command, option and exit status."""

import argparse
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from tests.rules.project import ROOT, none_of, passes
from vfagent.cli import outputs
from vfagent.cli.parser import parser
from vfagent.doctor.checks.finding import Finding, NotChecked
from vfagent.exit_status import Exit
from vfagent.model.inventory import Pf
from vfagent.model.status import GuestStatus, PfStatus, Phase, PolicyStatus, Status, VfStatus

SOURCES = ROOT / "packaging/man"
PAGE = (SOURCES / "vfagent.8.md").read_text()
WIDTHS = ("80", "200")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("man")
    passes("make", "--no-print-directory", "--silent", "man", f"BUILD={folder}")
    return sorted((folder / "man").iterdir())


def test_all_four_pages_are_built(pages: list[Path]) -> None:
    assert [page.name for page in pages] == ["vfagent-json.7", "vfagent-metrics.7", "vfagent.8", "vfagent.toml.5"]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_pages_render_without_a_warning(pages: list[Path], width: str) -> None:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": width}
    for page in pages:
        shown = ["man", "--warnings=w", "--encoding=UTF-8", "--local-file", "-Tutf8", "--ditroff", str(page)]
        strict = ["groff", "-ww", "-mandoc", "-Tutf8", "-z", str(page)]
        results = [subprocess.run(argv, env=environment, capture_output=True, text=True) for argv in (shown, strict)]
        none_of([result.stderr for result in results if result.stderr or result.returncode])


def test_a_mistake_in_a_page_is_found(tmp_path: Path) -> None:
    page = tmp_path / "wrong.8"
    page.write_text(".TH WRONG 8\n.SH NAME\nwrong \\*[nothing] \\- wrong\n")
    done = subprocess.run(["groff", "-ww", "-mandoc", "-Tutf8", "-z", str(page)], capture_output=True, text=True)
    assert "nothing" in done.stderr


@pytest.mark.parametrize("name", ["vfagent.8", "vfagent.toml.5", "vfagent-metrics.7", "vfagent-json.7"])
def test_whatis_can_read_the_name_of_each_page(pages: list[Path], name: str) -> None:
    page = next(page for page in pages if page.name == name)
    output = subprocess.run(["lexgrog", str(page)], capture_output=True, text=True, check=True).stdout
    assert f'"{name.rpartition(".")[0]} - ' in output


def leaves(command: argparse.ArgumentParser, path: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The commands without subcommands, by their words."""
    inner = [action for action in command._actions if isinstance(action, argparse._SubParsersAction)]
    if not inner:
        yield path, command
    for name, sub in inner[0].choices.items() if inner else ():
        yield from leaves(sub, f"{path} {name}".strip())


def every_parser(command: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield command
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from every_parser(sub)


def section(title: str) -> str:
    return re.split(r"(?m)^# ", PAGE.partition(f"\n# {title}\n")[2])[0]


def terms(title: str) -> list[str]:
    """The terms of a definition list as they are typed: `guest stop NAME`."""
    entries = re.findall(r"(?m)^(\*\*.*)\n:   ", section(title))
    return [re.sub(r"\*|\\", "", term) for term in entries]


def usage(path: str, command: argparse.ArgumentParser) -> str:
    words = [path]
    for action in command._actions:
        if not action.option_strings:
            words.append(f"[{action.metavar}...]" if action.nargs == "*" else str(action.metavar))
    return " ".join(words)


def test_the_page_has_exactly_the_commands_with_their_arguments() -> None:
    assert sorted(terms("COMMANDS")) == sorted(usage(path, command) for path, command in leaves(parser()))


def test_the_synopsis_names_every_command() -> None:
    synopsis = re.sub(r"\*|\\", "", section("SYNOPSIS"))
    none_of([path for path, _ in leaves(parser()) if not all(word in synopsis.split() for word in path.split())])


def test_the_page_has_exactly_the_options() -> None:
    actions = [action for command in every_parser(parser()) for action in command._actions if action.option_strings]
    options = {action.option_strings[-1] for action in actions}
    assert {word for term in terms("OPTIONS") for word in re.findall(r"--[a-z-]+", term)} == options


def test_the_page_names_the_commands_of_each_option() -> None:
    described = dict(re.findall(r"(?m)^\*\*.*?\\-\\-([a-z-]+)\*\*.*\n:   ((?:.+\n)+)", section("OPTIONS")))
    takers = [
        (path, action) for path, command in leaves(parser()) for action in command._actions if action.option_strings
    ]
    options = [(path, action.option_strings[-1].lstrip("-")) for path, action in takers]
    own = [(path, option) for path, option in options if option not in ("help", "root")]
    none_of([f"{path} --{option}" for path, option in own if f"**{path}**" not in described[option]])


def test_the_page_has_every_exit_status() -> None:
    assert sorted(terms("EXIT STATUS")) == sorted(str(int(status)) for status in Exit)


def test_the_page_explains_every_phase() -> None:
    assert sorted(terms("PHASES")) == sorted(Phase)


@pytest.mark.parametrize(
    ("term", "kind"),
    [
        ("status", Status),
        ("policy of status", PolicyStatus),
        ("pfs of status", PfStatus),
        ("vfs of these", VfStatus),
        ("guests of status", GuestStatus),
        ("list", outputs.List),
        ("pfs of list", Pf),
        ("plan", outputs.Plan),
        ("pfs of plan", outputs.PlanPf),
        ("steps of these", outputs.PlanStep),
        ("rules of plan", outputs.PlanRule),
        ("guests of plan", outputs.PlanGuest),
        ("apply", outputs.Apply),
        ("check", outputs.Check),
        ("problems of check", outputs.CheckProblem),
        ("doctor", outputs.Doctor),
        ("findings of doctor", Finding),
        ("not_checked of doctor", NotChecked),
        ("guest list", outputs.Guests),
        ("guest status", outputs.Guest),
        ("rom list", outputs.Roms),
        ("guests of rom list", outputs.RomNeed),
        ("vfs of rom list", outputs.RomDriver),
    ],
)
def test_the_page_names_every_key_of_the_json(term: str, kind: type) -> None:
    outputs_section = (SOURCES / "vfagent-json.7.md").read_text().partition("\n# OUTPUTS\n")[2].partition("\n# ")[0]
    entries = re.findall(r"(?m)^(\*\*.*)\n:   ((?:.+\n)+)", outputs_section)
    described = {re.sub(r"\*", "", name): text for name, text in entries}
    assert re.findall(r"\*([a-z_]+)\*[^*]", described[term]) == [field.name for field in fields(kind)]


def test_the_page_names_every_environment_variable() -> None:
    read = re.compile(r"""environ(?:\.get\(|\[)"([A-Z_]+)"|"([A-Z_]+)" not in os\.environ""")
    texts = [path.read_text() for path in (ROOT / "vfagent").rglob("*.py")]
    names = {name or other for text in texts for name, other in read.findall(text)}
    assert len(names) > 4
    none_of([name for name in sorted(names) if f"**{name}**" not in section("ENVIRONMENT")])
