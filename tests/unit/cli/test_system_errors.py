# SPDX-License-Identifier: Apache-2.0
"""A system error is one line with object and cause, never a traceback."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.host.tree import Tree, put
from vfagent.cli.main import VERBS, main
from vfagent.model.pci import PciAddress
from vfagent.store.state import State

PROJECT = Path(__file__).parents[3]
PF = "0000:01:00.0"

needs_words = {"guest": ["list"], "rom": ["list"], "release": [PF], "explain": ["trust"]}


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    tree = Tree(tmp_path)
    tree.add_pf(PF, vfs=2, interface="ens1")
    return tree


def program(*argv: str, stdout: str) -> "subprocess.CompletedProcess[str]":
    with open(stdout, "w") as out:
        command = [sys.executable, "-m", "vfagent", *argv]
        return subprocess.run(command, cwd=PROJECT, stdout=out, stderr=subprocess.PIPE, text=True, check=False)


@pytest.mark.parametrize("pfs", [1, 60])
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_output_to_a_full_disk_is_an_error_of_one_line(tree: Tree, pfs: int, options: tuple[str, ...]) -> None:
    """Python keeps a short text in its buffer after a failed write, and drops a long one."""
    for index in range(2, pfs + 1):
        tree.add_pf(f"0000:{index:02x}:00.0", vfs=3)
    done = program("list", *options, "--root", str(tree.root), stdout="/dev/full")
    assert (done.returncode, done.stderr) == (1, "vfagent: standard output: ENOSPC (No space left on device)\n")


@pytest.mark.parametrize("verb", sorted(VERBS))
@pytest.mark.parametrize(("name", "kind"), [("absent", "nothing"), ("file", "a file")])
def test_a_root_that_is_not_a_folder_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, name: str, kind: str
) -> None:
    put(tmp_path / "file", "")
    words = needs_words.get(verb, [])
    assert main([verb, "--root", str(tmp_path / name), *words]) == 1
    out, err = capsys.readouterr()
    line, _, hint = err.partition("\n")
    assert (out, line) == ("", f"vfagent: --root {tmp_path}/{name}: found {kind}, allowed is a folder")
    assert hint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


Refuse = Callable[[type[OSError], int, str], None]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Makes the first write of `release` fail."""

    monkeypatch.setattr("vfagent.cli.main.require_own_host", lambda *_: None)

    def refused(kind: type[OSError], number: int, text: str) -> None:
        def fail(_: State, address: PciAddress) -> None:
            raise kind(number, text, f"/run/vfagent/released/{address}")

        monkeypatch.setattr(State, "release", fail)

    return refused


def test_release_without_permission_hints_at_root(
    tree: Tree, refuse: Refuse, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse(PermissionError, 13, "Permission denied")
    assert main(["release", "--root", str(tree.root), "ens1"]) == 1
    assert capsys.readouterr().err == (
        f"vfagent: /run/vfagent/released/{PF}: EACCES (Permission denied)\n  (run it as root)\n"
    )


def test_release_on_a_full_disk_says_so(tree: Tree, refuse: Refuse, capsys: pytest.CaptureFixture[str]) -> None:
    refuse(OSError, 28, "No space left on device")
    assert main(["release", "--root", str(tree.root), PF]) == 1
    assert capsys.readouterr().err == f"vfagent: /run/vfagent/released/{PF}: ENOSPC (No space left on device)\n"


def test_a_library_that_is_not_installed_is_named_without_a_traceback() -> None:
    """As in a clone, on a machine that has Python alone. None in sys.modules: it cannot be imported."""
    code = "import sys; sys.modules['pyudev'] = None; from vfagent.cli.main import main; sys.exit(main(['list']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    first, _, hint = done.stderr.partition("\n")
    assert (done.returncode, first) == (1, "vfagent: the Python library pyudev is not installed")
    assert "pyproject.toml" in hint
