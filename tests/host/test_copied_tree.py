# SPDX-License-Identifier: Apache-2.0
"""A tree copied from another host, with links that lead out of it and FIFOs: nothing of this host is read."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vfagent.cli.status_file import read_status
from vfagent.errors import PolicyError, VfagentError
from vfagent.kernel.device_users import KernelDeviceUsers
from vfagent.kernel.management import sessions
from vfagent.kernel.sysfs import RootedSysfs
from vfagent.model.codec import encode
from vfagent.model.driver_state import DriverState
from vfagent.model.network import Borrowed
from vfagent.model.pci import PciAddress
from vfagent.model.status import PolicyStatus, Status
from vfagent.store.guest_records import GuestRecords, Record
from vfagent.store.host_files import HostFiles
from vfagent.store.identity import read_identity
from vfagent.store.move_journal import MoveJournal
from vfagent.store.policy_files import load
from vfagent.store.state import State

PF = PciAddress("0000:01:00.0")
SESSION = "  sl  local rem st\n   0: 0101A8C0:0016 0201A8C0:8000 01 0\n"
BORROWED = Borrowed("192.168.1.1/24", "eno1")
STATUS = Status(1, "0", 1, 0.0, ready=True, policy=PolicyStatus((), "", 0.0), pfs=())


@dataclass(frozen=True)
class Reader:
    """What reads a file of the tree, and what the file has."""

    file: str
    text: str
    read: Callable[[Path], Any]


def _status(root: Path) -> object:
    try:
        return read_status(root)
    except VfagentError:
        return None


def _policy(root: Path) -> object:
    try:
        return load(root).pf
    except PolicyError:
        return None


READERS = {
    "status": Reader("run/vfagent/status.json", json.dumps(encode(STATUS)), _status),
    "moves": Reader(
        "run/vfagent/borrowed/x.json", json.dumps(encode(BORROWED)), lambda root: MoveJournal(root).borrowed()
    ),
    "kvm": Reader("run/vfagent/kvm.json", "true", lambda root: GuestRecords(root).kvm()),
    "guest": Reader(
        "run/vfagent/guests/x.json", json.dumps(encode(Record("0"))), lambda root: GuestRecords(root).get("x")
    ),
    "machine": Reader("etc/machine-id", "0123\n", lambda root: read_identity(root).machine_id),
    "sessions": Reader("proc/self/net/tcp", SESSION, sessions),
    "swaps": Reader("proc/swaps", "Filename\n/dev/sda2 partition\n", lambda root: KernelDeviceUsers(root).swaps()),
    "policy": Reader("etc/vfagent/policy.toml", '[[pf]]\nname = "a"\nmatch = { pci = "*" }\nvfs = 1\n', _policy),
    "text": Reader("etc/modprobe.d/a.conf", "x", lambda root: HostFiles(root).read("etc/modprobe.d/a.conf")),
    "exists": Reader("etc/a", "x", lambda root: HostFiles(root).exists("etc/a")),
}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    (tmp_path / "tree").mkdir()
    return tmp_path / "tree"


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_file_behind_a_link_that_leaves_the_tree_is_not_read(tree: Path, reader: Reader) -> None:
    file = tree / reader.file
    file.parent.mkdir(parents=True)
    inside, outside = tree / "stored", tree.parent / "stored"
    for stored in (inside, outside):
        stored.write_text(reader.text)
    file.symlink_to(os.path.relpath(inside, file.parent))
    assert reader.read(tree), "a link within the tree is followed"
    file.unlink()
    file.symlink_to(outside)
    assert not reader.read(tree)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_folder_behind_a_link_that_leaves_the_tree_is_not_read(tree: Path, reader: Reader) -> None:
    outside = tree.parent / "stored" / Path(reader.file).name
    outside.parent.mkdir()
    outside.write_text(reader.text)
    folder = (tree / reader.file).parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(outside.parent)
    assert not reader.read(tree)


@pytest.mark.parametrize("reader", [reader for name, reader in READERS.items() if name != "exists"])
def test_a_fifo_in_the_tree_blocks_nothing(tree: Path, reader: Reader) -> None:
    file = tree / reader.file
    file.parent.mkdir(parents=True)
    os.mkfifo(file)
    assert not reader.read(tree)


def test_names_and_links_behind_a_link_that_leaves_the_tree_are_not_read(tree: Path) -> None:
    outside = tree.parent / "stored"
    (outside / "folder").mkdir(parents=True)
    (outside / "driver").symlink_to("igb")
    (tree / "etc").symlink_to(outside)
    assert HostFiles(tree).names("etc") == []
    assert RootedSysfs(tree).link("etc/driver") is None
    (tree / "sys").mkdir()
    (tree / "sys/driver").symlink_to("../../absent/igb")
    assert RootedSysfs(tree).link("sys/driver") == "igb", "only its name counts, and a copy need not have the driver"


def test_state_of_a_pf_behind_a_link_that_leaves_the_tree_is_not_read(tree: Path) -> None:
    outside = State(tree.parent / "other")
    outside.keep_driver_state(PF, DriverState(driver="igb"))
    (tree / "run").symlink_to(tree.parent / "other/run")
    assert outside.driver_state(PF) != DriverState()
    assert State(tree).driver_state(PF) == DriverState()
