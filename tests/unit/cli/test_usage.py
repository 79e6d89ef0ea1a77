# SPDX-License-Identifier: Apache-2.0
"""Verbs, wrong usage, help, and a closed pipe."""

import argparse
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.host.tree import Tree
from vfagent.cli.main import CHANGE_THE_HOST, VERBS, main
from vfagent.cli.parser import parser


@pytest.mark.parametrize("argv", [["listt"], ["status", "--wat"], ["list", "--jsn"], ["release"], ["check", "--jsn"]])
def test_wrong_usage_exits_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2
    assert "usage: vfagent" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "meant"),
    [(["sttaus"], "status"), (["doctro"], "doctor"), (["guest", "satrt"], "start"), (["Plan"], "plan")],
)
def test_a_mistyped_verb_is_wrong_usage_with_a_suggestion(
    argv: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2
    assert capsys.readouterr().err.endswith(f', did you mean "{meant}"?\n')


def test_help_does_not_change_the_case_of_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["rom", "--help"])
    assert "\nBuild or list the iPXE ROMs" in capsys.readouterr().out


def test_a_closed_pipe_is_no_error(tree: Tree) -> None:
    for index in range(2, 50):
        tree.add_pf(f"0000:{index:02x}:00.0", vfs=4)
    project = str(Path(__file__).parents[3])
    argv = [sys.executable, "-m", "vfagent", "list", "--json", "--root", str(tree.root)]  # more than a pipe holds
    with subprocess.Popen(argv, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(10) == 0


def test_every_verb_of_the_parser_has_a_function() -> None:
    (verbs,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    assert set(verbs.choices) == set(VERBS)
    assert set(VERBS) >= CHANGE_THE_HOST
    for target in VERBS.values():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function))
