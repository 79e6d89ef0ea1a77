# SPDX-License-Identifier: Apache-2.0
"""`init` on trees of files: its text, and the file that it writes."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.host.tree import Tree, put
from vfagent.store.policy_files import load, load_text

ADOPTED = """\
# 0000:01:00.0 (ens1): 8086:10c9, driver igb, 2 of 8 VFs
[[pf]]
name = "ens1"
match = { mac = "02:00:00:00:00:01" }
vfs = 2

[[pf.vf]]
driver = "vfio-pci"
"""


def test_init_prints_the_rule_of_each_pf(command: Any) -> None:
    result = command("init")
    assert result.status == 0, result.err
    assert ADOPTED in result.out
    assert load_text("init", result.out).pf[0].name == "ens1"


def test_the_plan_of_what_init_wrote_is_empty(command: Any, tree: Tree) -> None:
    tree.policy(command("init").out)
    result = command("plan")
    assert (result.status, "nothing to do" in result.out) == (0, True)


def test_a_card_without_vfs_gets_a_proposal_as_a_comment(command: Any, tree: Tree) -> None:
    tree.add_pf("0000:02:00.0", vfs=0, interface="ens2")
    result = command("init", "--card", "ens2")
    assert result.status == 0
    assert "# vfs = 4\n" in result.out
    assert "ens1" not in result.out
    assert load_text("init", result.out).pf == ()


@pytest.mark.parametrize(
    ("path", "text", "says"),
    [
        (
            "etc/systemd/network/10-pf.link",
            "[Match]\nDriver=igb\n[Link]\nSR-IOVVirtualFunctions=2\n[SR-IOV]\nVirtualFunction=0\nVLANId=10\n",
            "# udev creates 2 VFs on it, too, and each undoes what the other does: "
            "remove SR-IOVVirtualFunctions= and [SR-IOV] from /etc/systemd/network/10-pf.link\n",
        ),
        (
            "etc/rc.local",
            "echo 2 >/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs\n",
            "# a script or unit writes its sriov_numvfs: echo 2 >/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs, too, "
            "and each undoes what the other does: remove that line from /etc/rc.local, or disable it\n",
        ),
    ],
)
def test_who_else_sets_the_vfs_is_in_the_file(command: Any, tree: Tree, path: str, text: str, says: str) -> None:
    """Adopting a card ends nothing that sets it up at the next boot."""
    put(tree.root / path, text)
    tree.add_pf("0000:02:00.0", vfs=0, interface="ens2", driver="ixgbe")
    result = command("init")
    assert result.status == 0, result.err
    assert result.out.count(says) == 1
    assert ADOPTED.replace("[[pf]]", says + "[[pf]]") in result.out


def test_a_card_that_is_not_there_is_an_error(command: Any) -> None:
    result = command("init", "--card", "ens9")
    assert (result.status, result.out) == (1, "")
    assert "ens9: there is no such PF" in result.err


def test_a_file_that_is_there_is_overwritten_only_by_force(command: Any, tree: Tree, tmp_path: Path) -> None:
    file = tree.root / "etc/vfagent/policy.toml"
    before = file.read_text()
    result = command("init", "--output", str(file))
    assert (result.status, file.read_text()) == (1, before)
    assert "it is there already" in result.err
    assert command("init", "--output", str(file), "--force").status == 0
    assert load(tree.root).pf[0].name == "ens1"
    assert sorted(os.listdir(file.parent)) == ["policy.toml"]


def test_a_new_file_is_written_whole(command: Any, tmp_path: Path) -> None:
    file = tmp_path / "new.toml"
    result = command("init", "--output", str(file))
    assert (result.status, result.out) == (0, "")
    assert ADOPTED in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o644 & ~_umask()


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


@pytest.mark.parametrize("name", ['a"b', "a\\b", "ä"])
def test_an_interface_name_of_the_kernel_cannot_break_the_policy(command: Any, tree: Tree, name: str) -> None:
    tree.add_pf("0000:02:00.0", vfs=1, interface=name)
    result = command("init")
    assert result.status == 0, result.err
    load_text("init", result.out)
