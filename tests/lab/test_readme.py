# SPDX-License-Identifier: Apache-2.0
"""The two commands with which README begins."""

import shlex
import subprocess

import pytest

from tests.lab.install import REPOSITORY
from tests.lab.target import MARK

pytestmark = pytest.mark.long

LIMIT_S = 900


def type_here(command: str, typed: str = "") -> str:
    done = subprocess.run(
        shlex.split(command),
        cwd=REPOSITORY,
        input=typed,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_make_demo_shows_a_guest_that_has_booted() -> None:
    shown = type_here("make demo")
    assert MARK in shown
    assert "converged, rule" in shown


def test_make_lab_opens_a_shell_on_a_host_that_has_converged() -> None:
    wait = "until vfagent status >/dev/null; do sleep 1; done"
    shown = type_here("make lab", f"{wait}; vfagent status\nexit\n")
    assert "converged, rule lab, 4 of 4 VFs" in shown
