# SPDX-License-Identifier: Apache-2.0
"""Files of sysfs below a root: reads, writes, and the one that is never opened."""

import contextlib
import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest

from tests.host.tree import Tree
from vfagent.cli.main import main
from vfagent.kernel.sysfs import RootedSysfs
from vfagent.reconcile.observe import observe, pf_addresses
from vfagent.store.identity import open_host

PF = "0000:01:00.0"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    tree = Tree(tmp_path)
    tree.add_pf(PF, vfs=3, interface="ens1")
    return tree


def test_a_file_is_read_stripped(tmp_path: Path) -> None:
    (tmp_path / "vendor").write_text("0x8086\n")
    assert RootedSysfs(tmp_path).read("vendor") == "0x8086"


@pytest.mark.parametrize("path", ["absent", "folder", "dangling", "absent/below"])
def test_what_cannot_be_read_is_none(tmp_path: Path, path: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    assert RootedSysfs(tmp_path).read(path) is None


def test_bytes_that_are_not_utf_8_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "label").write_bytes(b"\xff\xfe card")
    assert RootedSysfs(tmp_path).read("label") == "\ufffd\ufffd card"


def test_a_huge_file_is_read_up_to_a_limit(tmp_path: Path) -> None:
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(1 << 33)
    assert len(RootedSysfs(tmp_path).read("huge") or "") <= 64 * 1024


def test_a_fifo_in_a_copied_tree_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "vendor")
    assert not RootedSysfs(tmp_path).read("vendor")


@pytest.mark.parametrize("link", ["/etc", "../outside", "inner/../../outside"])
def test_a_link_that_leaves_a_copied_tree_leads_nowhere(tmp_path: Path, link: str) -> None:
    for folder in ("outside", "tree/inner"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "hostname").write_text("a")
    sysfs = RootedSysfs(tmp_path / "tree")
    (tmp_path / "tree/link").symlink_to(link)
    (tmp_path / "tree/within").symlink_to("inner")
    assert (sysfs.read("within/hostname"), sysfs.names("within"), sysfs.exists("within")) == ("a", ["hostname"], True)
    assert (sysfs.read("link/hostname"), sysfs.names("link"), sysfs.exists("link")) == (None, [], False)
    assert sysfs.read("../outside/hostname") is None


def test_links_and_names_are_those_of_the_tree(tree: Tree) -> None:
    sysfs = RootedSysfs(tree.root)
    assert sysfs.link(f"sys/bus/pci/devices/{PF}/driver") == "igb"
    assert sysfs.link(f"sys/bus/pci/devices/{PF}/vendor") is None
    assert sysfs.link(f"sys/bus/pci/devices/{PF}/absent") is None
    assert sysfs.names("sys/class/net") == ["ens1"]
    assert sysfs.names("sys/class/absent") == []
    assert sysfs.exists(f"sys/bus/pci/devices/{PF}")
    assert not sysfs.exists("sys/bus/usb")


def test_a_value_is_written_with_one_write(tmp_path: Path) -> None:
    """A FIFO takes a short write as a whole, or not at all."""
    os.mkfifo(tmp_path / "bind")
    reader = os.open(tmp_path / "bind", os.O_RDONLY | os.O_NONBLOCK)
    RootedSysfs(tmp_path).write("bind", "0000:01:10.0\n")
    assert os.read(reader, 100) == b"0000:01:10.0\n"
    assert os.read(reader, 100) == b""
    os.close(reader)


@pytest.mark.parametrize(("path", "number"), [("absent", errno.ENOENT), (".", errno.EISDIR)])
def test_a_refused_write_raises_the_kernels_errno(tmp_path: Path, path: str, number: int) -> None:
    with pytest.raises(OSError) as raised:
        RootedSysfs(tmp_path).write(path, "1")
    assert raised.value.errno == number
    assert os.listdir(tmp_path) == []


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that are opened by plain descriptors; open() would hang at the tree's sriov_numvfs."""
    paths: list[str] = []
    really_open = os.open

    def noted(path: str, *arguments: Any, **options: Any) -> int:
        paths.append(os.fspath(path))
        return really_open(path, *arguments, **options)

    monkeypatch.setattr(os, "open", noted)
    return paths


def test_observe_never_opens_numvfs(tree: Tree, opened: list[str]) -> None:
    """A reader of the tree's sriov_numvfs by open() would hang: this test would not end."""
    host = open_host(tree.root)
    assert pf_addresses(host) == [PF]
    (pf,) = observe(host).pfs
    assert [vf.address for vf in pf.vfs] == tree.vfs(PF)
    assert pf.netdev is not None
    assert pf.netdev.name == "ens1"
    assert any(path.endswith("sriov_totalvfs") for path in opened)
    assert not [path for path in opened if "numvfs" in path]


@pytest.mark.parametrize("verb", ["list", "plan"])
def test_list_and_plan_never_open_numvfs(tree: Tree, verb: str, opened: list[str]) -> None:
    tree.policy('[[pf]]\nname = "all"\nmatch = { driver = "igb" }\nvfs = 3\n')
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert main([verb, "--root", str(tree.root)]) in (0, 3)
    assert PF in output.getvalue()
    assert not [path for path in opened if "numvfs" in path]


def test_a_reader_of_the_trees_numvfs_would_hang(tree: Tree) -> None:
    fd = os.open(tree.device(PF) / "sriov_numvfs", os.O_RDWR | os.O_NONBLOCK)
    with pytest.raises(BlockingIOError):
        os.read(fd, 1)
    os.close(fd)


def test_vfs_are_counted_by_their_links_in_the_order_of_the_index(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.add_pf(PF, vfs=12, totalvfs=12)
    (pf,) = observe(open_host(tmp_path)).pfs
    assert [(vf.index, vf.address) for vf in pf.vfs] == list(enumerate(tree.vfs(PF)))
    assert len(pf.vfs) == 12
