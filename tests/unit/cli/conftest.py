# SPDX-License-Identifier: Apache-2.0
"""The tree and the command line. The checks for leaks and time are those of the host tier: `apply` has workers."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.host.conftest import leaves_nothing_behind, time_limit
from tests.host.tree import Tree
from tests.unit.cli.trees import PF, POLICY
from vfagent.cli.main import main

__all__ = ["leaves_nothing_behind", "time_limit"]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    tree = Tree(tmp_path)
    tree.add_pf(PF, vfs=2, interface="ens1")
    tree.device(PF).joinpath("sriov_drivers_autoprobe").write_text("0\n")
    (tmp_path / "sys/class/net/ens1/flags").write_text("0x1003\n")
    for vf in tree.vfs(PF):
        tree.bind(vf, "vfio-pci")
    tree.policy(POLICY)
    return tree


class Result:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def command(tree: Tree, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """`vfagent VERB --root TREE …` in this process, with TREE as this host's own root."""
    monkeypatch.setattr("vfagent.cli.main.require_own_host", lambda *_: None)

    def run(verb: str, *options: str) -> Result:
        capsys.readouterr()
        try:
            status = main([verb, "--root", str(tree.root), *options])
        except SystemExit as end:
            status = int(end.code or 0)
        return Result(int(status), *capsys.readouterr())

    return run
