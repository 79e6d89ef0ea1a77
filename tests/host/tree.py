# SPDX-License-Identifier: Apache-2.0
"""A host's sysfs as files: PFs, VFs and netdevs.

`sriov_numvfs` is a FIFO without a writer: a reader hangs, as with a kernel that waits for a guest.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

PCI = "sys/bus/pci"
MAC = "02:00:00:00:00:{:02x}"


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def point(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


@dataclass(frozen=True)
class Tree:
    root: Path

    def device(self, address: str) -> Path:
        return self.root / PCI / "devices" / address

    def add_device(self, address: str, **files: str) -> None:
        for name, text in files.items():
            put(self.device(address) / name, f"{text}\n")

    def bind(self, address: str, driver: str | None) -> None:
        link = self.device(address) / "driver"
        if driver is None:
            link.unlink(missing_ok=True)
        else:
            folder = self.root / PCI / "drivers" / driver
            folder.mkdir(parents=True, exist_ok=True)
            point(link, os.path.relpath(folder, link.parent))

    def bound(self, address: str) -> str | None:
        link = self.device(address) / "driver"
        return link.readlink().name if link.is_symlink() else None

    def add_pf(self, address: str, *, vfs: int = 0, totalvfs: int = 8, interface: str = "", driver: str = "igb") -> str:
        kind = "0x020000" if interface else "0x120000"
        self.add_device(address, vendor="0x8086", device="0x10c9", sriov_totalvfs=str(totalvfs), enable="1")
        self.add_device(address, sriov_drivers_autoprobe="1", sriov_vf_device="10ca", **{"class": kind})
        os.mkfifo(self.device(address) / "sriov_numvfs")
        self.bind(address, driver)
        if interface:
            self.add_netdev(interface, address)
        self.make_vfs(address, vfs)
        return address

    def add_netdev(self, name: str, address: str) -> int:
        """With the next ifindex; it is down, and has a carrier."""
        folder, link = self.device(address) / "net" / name, self.root / "sys/class/net" / name
        ifindex = len(list(link.parent.glob("*"))) + 1 if link.parent.exists() else 1
        facts = {"ifindex": ifindex, "address": MAC.format(ifindex), "mtu": 1500, "flags": "0x1002", "carrier": 1}
        for key, value in facts.items():
            put(folder / key, f"{value}\n")
        point(link, os.path.relpath(folder, link.parent))
        return ifindex

    def vf_address(self, pf: str, index: int) -> str:
        first = 0x10 if pf[-4:-2] == "00" else 0x14
        return f"{pf[:-4]}{first + index // 8:02x}.{index % 8}"

    def vfs(self, pf: str) -> list[str]:
        links = sorted(self.device(pf).glob("virtfn*"), key=lambda link: int(link.name[6:]))
        addresses: list[str] = []
        for link in links:
            with contextlib.suppress(FileNotFoundError):  # the agent's fake kernel removes them at the same time
                addresses.append(link.readlink().name)
        return addresses

    def make_vfs(self, pf: str, count: int) -> None:
        """What the kernel does after a write to numvfs: it removes all VFs, or creates all."""
        for address in self.vfs(pf):
            for path in sorted(self.device(address).rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            self.device(address).rmdir()
        for link in self.device(pf).glob("virtfn*"):
            link.unlink()
        for index in range(count):
            address = self.vf_address(pf, index)
            self.add_device(address, vendor="0x8086", device="0x10ca", enable="0", driver_override="(null)")
            point(self.device(address) / "physfn", f"../{pf}")
            group = self.root / f"sys/kernel/iommu_groups/{int(pf[5:7], 16)}{index:02}/devices"
            group.mkdir(parents=True, exist_ok=True)
            point(self.device(address) / "iommu_group", os.path.relpath(group.parent, self.device(address)))
            point(self.device(pf) / f"virtfn{index}", f"../{address}")

    def policy(self, text: str) -> None:
        put(self.root / "etc/vfagent/policy.toml", text)
