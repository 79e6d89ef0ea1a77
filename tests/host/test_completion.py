# SPDX-License-Identifier: Apache-2.0
"""The Tab key in the shells themselves."""

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vfagent.cli.main import VERBS

ROOT = Path(__file__).parents[2]
GUESTS = json.dumps(
    {"guests": [{"name": "cirros", "phase": "running"}, {"name": "node1", "phase": "waiting"}], "format": 1}, indent=2
)
PF = "0000:01:00.0"
LIMIT_S = 20.0

START = {
    "bash": "source /usr/share/bash-completion/bash_completion; source {file}",
    "zsh": "bindkey -e; fpath=({folder} $fpath); autoload -Uz compinit; compinit -D -u",
}
ARGV = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}
FILE = {"bash": "vfagent.bash", "zsh": "_vfagent", "fish": "vfagent.fish"}

TYPED = [
    ("vfagent rele", "vfagent release"),
    ("vfagent guest sto", "vfagent guest stop"),
    ("vfagent status --w", "vfagent status --watch"),
    ("vfagent --root /usr guest star", "vfagent --root /usr guest start"),
    ("vfagent guest stop ci", "vfagent guest stop cirros"),
    ("vfagent release 0000:01", f"vfagent release {PF}"),
    ("vfagent release en", "vfagent release ens1"),
    ("vfagent list en", "vfagent list ens1"),
    ("vfagent plan 0000:01", f"vfagent plan {PF}"),
    ("vfagent plan {folder}/pol", "vfagent plan {folder}/policy.toml"),
    ("vfagent rom build no", "vfagent rom build node1"),
    ("vfagent schema rom", "vfagent schema rom-list"),
    ("vfagent help sch", "vfagent help schema"),
    ("vfagent check {folder}/pol", "vfagent check {folder}/policy.toml"),
    ("vfagent list --root {folder}/sy", "vfagent list --root {folder}/sys"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A host with a PF and two guests, and the completion of each shell."""
    place = tmp_path / "host"
    pf = place / "sys/bus/pci/devices" / PF
    (pf / "net/ens1").mkdir(parents=True)
    (pf / "sriov_totalvfs").touch()
    (place / "policy.toml").touch()
    program = place / "bin/vfagent"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncat <<'end'\n{GUESTS}\nend\n")
    program.chmod(0o755)
    for shell, name in FILE.items():
        (place / name).write_text(_completion(shell).replace("/sys/bus/pci", f"{place}/sys/bus/pci"))
    return place


def _completion(shell: str) -> str:
    command = [sys.executable, str(ROOT / "packaging/completion.py"), shell]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


class Terminal:
    """A shell with typed input."""

    def __init__(self, shell: str, folder: Path) -> None:
        self._shell, self._output = shell, ""
        self._pid, self._fd = pty.fork()
        if not self._pid:
            environment = {"PATH": f"{folder}/bin:{os.environ['PATH']}", "TERM": "xterm", "HOME": str(folder)}
            os.execvpe(ARGV[shell][0], ARGV[shell], environment | {"PS1": "> "})
        self.type(START[shell].format(file=folder / FILE[shell], folder=folder) + "; echo READY $((1 + 1))\r")
        self._read_until(r"READY 2")

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def completed(self, line: str) -> str:
        """The line after Tab; `echo` in front of it makes the shell print the line."""
        self.type(line + "\t\x01echo GOT \r")
        return self._read_until(r"[\r\n]GOT (.*?)\s*\r?\n")[1]

    def _read_until(self, pattern: str) -> re.Match[str]:
        end = time.monotonic() + LIMIT_S
        while not (match := re.search(pattern, self._output)):
            if time.monotonic() > end:
                raise TimeoutError(f"{self._shell} does not say {pattern}: {self._output!r}")
            if select.select([self._fd], [], [], 0.2)[0]:
                self._output += os.read(self._fd, 65536).decode(errors="replace")
        self._output = self._output[match.end() :]
        return match

    def close(self) -> None:
        os.close(self._fd)
        os.waitpid(self._pid, 0)


@pytest.fixture(params=sorted(START))
def terminal(request: pytest.FixtureRequest, folder: Path) -> Iterator[Terminal]:
    opened = Terminal(request.param, folder)
    yield opened
    opened.close()


def test_tab_completes_commands_options_pfs_guests_and_files(terminal: Terminal, folder: Path) -> None:
    typed = [(line.format(folder=folder), wanted.format(folder=folder)) for line, wanted in TYPED]
    assert [terminal.completed(line).rstrip("/") for line, _ in typed] == [wanted for _, wanted in typed]


def fish(folder: Path, line: str) -> set[str]:
    environment = {"PATH": f"{folder}/bin:{os.environ['PATH']}", "HOME": str(folder)}
    script = f"source {folder}/vfagent.fish; complete --do-complete '{line}'"
    done = subprocess.run(["fish", "-N", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert not done.stderr
    return {line.partition("\t")[0] for line in done.stdout.splitlines()}


def test_fish_completes_the_same_words(folder: Path) -> None:
    assert fish(folder, "vfagent rele") == {"release"}
    assert fish(folder, "vfagent guest ") == {"list", "start", "stop", "status", "log", "console"}
    assert fish(folder, "vfagent guest --root /usr stop ") == {"cirros", "node1"}
    assert fish(folder, "vfagent release ") == {PF, "ens1"}
    assert fish(folder, "vfagent list ") == {PF, "ens1"}
    assert {PF, "ens1"} < fish(folder, "vfagent plan ")
    assert f"{folder}/policy.toml" in fish(folder, f"vfagent plan {folder}/pol")
    assert fish(folder, "vfagent help ") == set(VERBS)
    assert fish(folder, "vfagent status --w") == {"--watch"}
    assert fish(folder, f"vfagent check {folder}/pol") == {f"{folder}/policy.toml"}
    assert f"{folder}/sys/" in fish(folder, f"vfagent list --root {folder}/")


def test_every_command_is_completed(folder: Path) -> None:
    assert fish(folder, "vfagent ") == set(VERBS)
