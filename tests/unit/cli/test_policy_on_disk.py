# SPDX-License-Identifier: Apache-2.0
"""`status` after the policy on disk was changed and not loaded."""

import time
from pathlib import Path

import pytest

from tests.host.tree import Tree, put
from vfagent import __version__
from vfagent.cli.main import main
from vfagent.model.codec import encode
from vfagent.model.status import PolicyStatus, Status
from vfagent.policy.types import Policy
from vfagent.store.policy_files import load
from vfagent.store.policy_on_disk import not_active
from vfagent.store.state import write_json

POLICY = '[[pf]]\nname = "all"\nmatch = { driver = "igb" }\nvfs = 2\n'


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    tree = Tree(tmp_path)
    tree.policy(POLICY)
    return tree


def status_lines(tree: Tree, capsys: pytest.CaptureFixture[str]) -> list[str]:
    main(["status", "--root", str(tree.root)])
    return capsys.readouterr().out.splitlines()


def write_status(tree: Tree, digest: str, *problems: str) -> Status:
    policy = PolicyStatus(("/etc/vfagent/policy.toml",), digest, 0.0, problems)
    status = Status(1, __version__, 1, time.time(), ready=True, policy=policy, pfs=())
    write_json(tree.root / "run/vfagent/status.json", encode(status))
    return status


def test_status_says_when_the_policy_on_disk_is_not_the_active_one(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    write_status(tree, load(tree.root).digest)
    assert "on disk" not in "\n".join(status_lines(tree, capsys))
    tree.policy(POLICY.replace("vfs = 2", "vfs = 3"))
    line = "  the policy on disk is not the active one: see vfagent plan; systemctl reload vfagent loads it"
    assert status_lines(tree, capsys)[2] == line
    assert main(["status", "--root", str(tree.root)]) == 0
    capsys.readouterr()
    tree.policy(POLICY)
    assert "on disk" not in "\n".join(status_lines(tree, capsys))


def test_status_says_once_that_the_policy_on_disk_is_invalid(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    write_status(tree, load(tree.root).digest)
    tree.policy("[[pf")
    assert "  the policy on disk is not the active one, and is invalid: see vfagent check" in status_lines(tree, capsys)
    write_status(tree, "abc", "policy.toml:1: not TOML")
    assert "on disk" not in "\n".join(status_lines(tree, capsys))


def test_a_screen_reads_the_policy_again_only_when_its_files_change(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = write_status(tree, load(tree.root).digest).policy
    read: list[Path] = []

    def counted(root: Path) -> Policy:
        read.append(root)
        return load(root)

    monkeypatch.setattr("vfagent.store.policy_on_disk.load", counted)
    assert [not_active(tree.root, policy) for _ in range(5)] == [None] * 5
    put(tree.root / "run/vfagent/policy.d/50.toml", "")
    assert [bool(not_active(tree.root, policy)) for _ in range(5)] == [True] * 5
    assert len(read) == 2
