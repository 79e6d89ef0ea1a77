# SPDX-License-Identifier: Apache-2.0
"""A kernel made of files, which all worker processes share.

It behaves like the kernel: numvfs from N to M is EBUSY, drivers_probe follows driver_override. Writes can be made to
fail, to take long or to hang, and are recorded in a journal.
"""

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.host.tree import Tree, put
from vfagent.kernel.device_users import KernelDeviceUsers
from vfagent.kernel.offline_tree import SysfsDevlink, SysfsNetwork, SysfsRtnl
from vfagent.kernel.protocols import Host, LinkFacts
from vfagent.kernel.sysfs import RootedSysfs
from vfagent.kernel.udev import NoUdevDatabase
from vfagent.model.codec import decode, encode
from vfagent.model.pci import PciAddress, card_of
from vfagent.model.vf_settings import TABLE, LinkState, Rate, VfSettings, Vlan
from vfagent.store.move_journal import MoveJournal
from vfagent.store.numvfs_token import NumvfsTokenFile

UDEV_KNOWS_NOTHING = "udev-knows-nothing"  # with this file, udev has not initialized any device
NEW_VF = VfSettings("00:00:00:00:00:00", Vlan(0), Rate(0, 0), spoof_check=True, trust=False, link_state=LinkState.AUTO)


@dataclass(frozen=True)
class Write:
    """One write to the kernel; times are CLOCK_MONOTONIC."""

    device: str
    file: str
    text: str
    began: float
    ended: float
    errno: int


class FakeKernel:
    def __init__(self, root: Path) -> None:
        self.tree = Tree(root)
        self._journal = root / "journal"
        self.one_card = False  # pci_rescan_remove_lock is held while sriov_numvfs is written
        for driver in ("vfio-pci", "igb"):
            (root / "sys/bus/pci/drivers" / driver).mkdir(parents=True, exist_ok=True)

    @property
    def host(self) -> Host:
        sysfs, root = FakeSysfs(self), self.tree.root
        network = SysfsNetwork(sysfs)
        udev = UnknowingUdev() if (root / UDEV_KNOWS_NOTHING).exists() else NoUdevDatabase()
        token, users = NumvfsTokenFile(root) if self.one_card else None, KernelDeviceUsers(root)
        return Host(
            sysfs, FakeRtnl(sysfs), SysfsDevlink(sysfs), udev, network, network, MoveJournal(root), users, token
        )

    # What writes to a device's file do: `times` of them fail; all wait for `seconds`, and until `until` exists.

    def refuse(self, device: str, file: str, number: int, *, times: int = 1_000_000) -> None:
        self._behave(device, file, {"errno": number, "left": times})

    def slow_down(self, device: str, file: str, seconds: float) -> None:
        self._behave(device, file, {"seconds": seconds})

    def hang(self, device: str, file: str) -> Path:
        """Until the returned file is created."""
        until = self.tree.root / f"released {device}"
        self._behave(device, file, {"until": str(until)})
        return until

    def pass_over(self, device: str, file: str, *, times: int) -> None:
        """The first `times` writes succeed without effect."""
        self._behave(device, file, {"missed": times})

    def behave(self, device: str, file: str) -> None:
        self._behave(device, file, {})

    def _behave(self, device: str, file: str, how: dict[str, Any]) -> None:
        path = self.tree.root / "behaviour" / f"{device} {file}"
        put(path.with_suffix(".new"), json.dumps(how))
        os.replace(path.with_suffix(".new"), path)

    def writes(self, device: str = "", file: str = "") -> list[Write]:
        lines = self._journal.read_text().splitlines() if self._journal.exists() else []
        writes = (Write(**json.loads(line)) for line in lines)
        return [write for write in writes if device in ("", write.device) and file in ("", write.file)]

    def take(self, device: str, file: str, text: str) -> None:
        """A write, with the behaviour of its file. Raises OSError."""
        began, number = time.monotonic(), 0
        try:
            with self._rescan_remove_lock(file):
                if self._wait_or_fail(device, file):
                    self._do(device, file, text)
        except OSError as error:
            number = error.errno or 0
            raise
        finally:
            line = json.dumps(vars(Write(device, file, text.strip(), began, time.monotonic(), number)))
            with open(self._journal, "a") as journal:
                journal.write(line + "\n")

    @contextmanager
    def _rescan_remove_lock(self, file: str) -> Iterator[None]:
        if not self.one_card or file != "sriov_numvfs":
            yield
            return
        with open(self.tree.root / "pci_rescan_remove_lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _wait_or_fail(self, device: str, file: str) -> bool:
        """Whether the write is to have an effect. Raises OSError."""
        path = self.tree.root / "behaviour" / f"{device} {file}"
        how = json.loads(path.read_text()) if path.exists() else {}
        time.sleep(how.get("seconds", 0))
        end = time.monotonic() + 25  # longer than any test waits
        while "until" in how and not os.path.exists(how["until"]) and time.monotonic() < end:
            time.sleep(0.01)
        if how.get("left"):
            self._behave(device, file, {**how, "left": how["left"] - 1})
            raise OSError(how["errno"], os.strerror(how["errno"]))
        if missed := how.get("missed"):
            self._behave(device, file, {"missed": missed - 1})
        return not missed

    def _do(self, device: str, file: str, text: str) -> None:
        tree, path = self.tree, self.tree.device(device) / file
        match file:
            case "sriov_numvfs":
                if int(text) and tree.vfs(device):
                    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
                tree.make_vfs(device, int(text))
                for index in range(int(text)):
                    self.keep_settings(device, index, NEW_VF)
            case "driver_override":
                path.write_text(text.strip() or "(null)")
            case "unbind":
                tree.bind(device, None)
            case "drivers_probe":
                override = (tree.device(device) / "driver_override").read_text()
                tree.bind(device, "igbvf" if override == "(null)" else override)
            case "sriov_drivers_autoprobe":
                path.write_text(text)

    # The VF settings of a PF.

    def settings(self, pf: str, index: int) -> VfSettings | None:
        path = self._settings_path(pf, index)
        return decode(VfSettings, json.loads(path.read_text())) if path.exists() else None

    def keep_settings(self, pf: str, index: int, settings: VfSettings) -> None:
        path = self._settings_path(pf, index)
        put(path.with_suffix(".new"), json.dumps(encode(settings)))
        os.replace(path.with_suffix(".new"), path)

    def _settings_path(self, pf: str, index: int) -> Path:
        return self.tree.root / "settings" / f"{pf} {index}.json"


class UnknowingUdev:
    def properties(self, subsystem: str, name: str) -> None:
        return None


class FakeSysfs(RootedSysfs):
    def __init__(self, kernel: FakeKernel) -> None:
        super().__init__(kernel.tree.root)
        self.kernel = kernel

    def write(self, path: str, text: str) -> None:
        if path == "sys/bus/pci/drivers_probe":
            self.kernel.take(text, "drivers_probe", text)
            return
        device, file = path.removeprefix("sys/bus/pci/devices/").split("/")[0], path.rpartition("/")[2]
        self.kernel.take(device, file, text)


class FakeRtnl(SysfsRtnl):
    """Links are files; the VF settings are the fake kernel's."""

    def __init__(self, sysfs: FakeSysfs) -> None:
        super().__init__(sysfs)
        self.kernel = sysfs.kernel

    def link(self, ifindex: int, *, vfs: bool) -> LinkFacts | None:
        facts = super().link(ifindex, vfs=vfs)
        return replace(facts, vfs=self._vfs(facts.name)) if facts and vfs else facts

    def _vfs(self, name: str) -> Mapping[int, VfSettings]:
        pf = self._pf(name)
        vfs = range(len(self.kernel.tree.vfs(pf)))
        return {index: settings for index in vfs if (settings := self.kernel.settings(pf, index))}

    def _pf(self, name: str) -> PciAddress:
        (netdev,) = self.kernel.tree.root.glob(f"sys/bus/pci/devices/*/net/{name}")
        return PciAddress(netdev.parent.parent.name)

    def _name(self, ifindex: int) -> str:
        facts = super().link(ifindex, vfs=False)
        if facts is None:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        return facts.name

    def set_vfs(self, ifindex: int, settings: Mapping[int, VfSettings]) -> None:
        pf = self._pf(self._name(ifindex))
        for index, wanted in settings.items():
            self._set_vf(pf, index, wanted)

    def _set_vf(self, pf: PciAddress, index: int, settings: VfSettings) -> None:
        self.kernel.take(pf, f"vf{index}", "settings")
        given = {name: value for name in TABLE if (value := getattr(settings, name)) is not None}
        self.kernel.keep_settings(pf, index, replace(self.kernel.settings(pf, index) or NEW_VF, **given))

    def set_admin_state(self, ifindex: int, *, up: bool) -> None:
        put(self.kernel.tree.root / f"sys/class/net/{self._name(ifindex)}/flags", f"{0x1003 if up else 0x1002:#x}\n")

    def set_mtu(self, ifindex: int, mtu: int) -> None:
        put(self.kernel.tree.root / f"sys/class/net/{self._name(ifindex)}/mtu", f"{mtu}\n")


def overlap(writes: list[Write]) -> bool:
    """Whether two of them were at the same time."""
    ordered = sorted(writes, key=lambda write: write.began)
    return any(later.began < earlier.ended for earlier, later in pairwise(ordered))


def by_card(writes: list[Write]) -> dict[str, list[Write]]:
    cards: dict[str, list[Write]] = {}
    for write in writes:
        cards.setdefault(card_of(PciAddress(write.device), ari=False), []).append(write)
    return cards
