# SPDX-License-Identifier: Apache-2.0
"""A kernel in memory, with the real one's rules for SR-IOV: drivers/pci/iov.c, drivers/pci/pci-driver.c, rtnetlink."""

import errno
import os
from collections.abc import Iterator
from typing import NoReturn

from tests.model.devices import UNTOUCHED, VFIO_DRIVERS, Groups, NetDevice, PfDevice, VfDevice
from tests.model.drivers import Netdev
from tests.model.network import Links


class KernelHang(BaseException):
    """The real kernel would wait here, even after SIGKILL, until the VF is released."""


def refuse(number: int) -> NoReturn:
    raise OSError(number, os.strerror(number))


class Kernel:
    def __init__(self) -> None:
        self.pfs: dict[str, PfDevice] = {}
        self._vfs: dict[str, tuple[PfDevice, VfDevice]] = {}
        self.loaded: set[str] = set(VFIO_DRIVERS)
        self.netdevs: dict[str, NetDevice] = {}
        self.late_netdevs = False  # netdevs of VFs appear some time after the probe
        self._ifindex = 1
        self.links = Links(self)
        self.one_card = False  # pci_rescan_remove_lock is held while sriov_numvfs is written
        self.writer: str | None = None  # the PF whose write of sriov_numvfs does not return
        self._ipv6: dict[int, dict[str, int]] = {}  # net.ipv6.conf, by ifindex
        self.ipv6_refused = False  # net.ipv6.conf may not be written: what is set up then is open, which is a problem
        self._late: list[tuple[PfDevice, VfDevice]] = []

    def plug(self, pf: PfDevice, name: str, mac: str) -> None:
        self.pfs[pf.address] = pf
        self.loaded |= {pf.kind.name, pf.kind.vf_driver}
        if pf.kind.is_nic and pf.driver and pf.kind.netdev is Netdev.AT_PROBE:
            gid = f"fe:80:00:00:00:00:00:00:02:00:{mac}"
            pf.netdev = self.add_netdev(name, f"00:00:10:49:{gid}" if pf.kind.infiniband else mac)

    def make_netdev(self, pf: PfDevice) -> None:
        """Its driver makes it some time after the probe. udev has yet to handle its event."""
        pf.netdev = self.add_netdev(f"p{pf.address}", "00:1b:21:00:00:01")
        pf.netdev.known_to_udev = False

    def add_netdev(self, name: str, mac: str) -> NetDevice:
        self.netdevs[name] = NetDevice(name, self.next_ifindex(), mac)
        return self.netdevs[name]

    def ipv6_conf(self, name: str) -> dict[str, int] | None:
        """`default` is what each new netdev begins with."""
        new = {"accept_ra": 1, "autoconf": 1, "addr_gen_mode": 0, "disable_ipv6": 0}
        link = self.links.named(name)
        return self._ipv6.setdefault(link.ifindex, new) if link else new if name == "default" else None

    def next_ifindex(self) -> int:
        self._ifindex += 1
        return self._ifindex

    def pf_vfs(self) -> Iterator[tuple[PfDevice, VfDevice]]:
        return iter(self._vfs.values())

    def present(self) -> list[PfDevice]:
        return [pf for pf in self.pfs.values() if pf.plugged]

    def pf(self, address: str) -> PfDevice | None:
        pf = self.pfs.get(address)
        return pf if pf and pf.plugged else None

    def vf(self, address: str) -> tuple[PfDevice, VfDevice] | None:
        return self._vfs.get(address)

    def pf_of(self, vf: VfDevice) -> PfDevice:
        return self._vfs[vf.address][0]

    def by_ifindex(self, ifindex: int) -> NetDevice | None:
        return next((netdev for netdev in self.netdevs.values() if netdev.ifindex == ifindex), None)

    def pf_by_ifindex(self, ifindex: int) -> PfDevice | None:
        return next((pf for pf in self.present() if pf.netdev and pf.netdev.ifindex == ifindex), None)

    def group_of(self, pf: PfDevice, index: int) -> int | None:
        base = 100 * (1 + list(self.pfs).index(pf.address))
        match pf.groups:
            case Groups.NONE:
                return None
            case Groups.WITH_PF:
                return base
            case Groups.ONE_FOR_VFS:
                return base + 1
            case Groups.OWN:
                return base + 10 + index

    def group_members(self, group: int | None) -> list[str]:
        if group is None:
            return []
        pfs = [pf.address for pf in self.present() if self.pf_group(pf) == group]
        return sorted([*pfs, *(vf.address for _, vf in self.pf_vfs() if vf.group == group)])

    def pf_group(self, pf: PfDevice) -> int | None:
        return None if pf.groups is Groups.NONE else 100 * (1 + list(self.pfs).index(pf.address))

    def write_numvfs(self, pf: PfDevice, text: str) -> None:
        """sriov_numvfs_store, in its order of checks."""
        if not text.strip().isdigit():
            refuse(errno.EINVAL)
        count = int(text)
        if self.numvfs_hangs(pf):
            raise KernelHang(f"sriov_numvfs of {pf.address} is written while {self.writer}'s write has the lock")
        if count > pf.totalvfs:
            refuse(errno.ERANGE)
        if count == len(pf.vfs):
            return
        if pf.driver is None:
            refuse(errno.ENOENT)
        if count and pf.vfs:
            refuse(errno.EBUSY)
        if pf.kind.vfs_need_up and not (pf.netdev and pf.netdev.admin_up):
            if pf.kind.down_errno:
                refuse(pf.kind.down_errno)  # bnx2x_sriov_configure
            return  # bnxt_sriov_configure returns 0 all the same
        if count:
            count = pf.totalvfs if pf.kind.all_or_none else count
            self._create(pf, count if pf.kind.most_vfs is None else min(count, pf.kind.most_vfs))
        else:
            self.remove_vfs(pf)

    def numvfs_hangs(self, pf: PfDevice) -> bool:
        """Whether another write has the device lock, or the host's only pci_rescan_remove_lock."""
        return self.writer is not None and (self.one_card or self.writer == pf.address)

    def _create(self, pf: PfDevice, count: int) -> None:
        if pf.kind.netdev is Netdev.WITH_VFS:
            self.make_netdev(pf)
        for index in range(count):
            vf = VfDevice(index, pf.vf_address(index, count), self.group_of(pf, index), settings=UNTOUCHED)
            pf.vfs.append(vf)
            self._vfs[vf.address] = pf, vf
        for vf in pf.vfs:
            self.probe(pf, vf)

    def remove_vfs(self, pf: PfDevice) -> None:
        if any(vf.group_open for vf in pf.vfs):
            raise KernelHang(f"sriov_numvfs of {pf.address} is set to 0 while a VF is in use")
        for vf in pf.vfs:
            self._leave(vf)
            del self._vfs[vf.address]
        pf.vfs.clear()
        if pf.netdev and pf.kind.netdev is Netdev.WITH_VFS:
            pf.netdev = self.netdevs.pop(pf.netdev.name) and None
        pf.hwmode = pf.kind.hwmode

    def probe(self, pf: PfDevice, vf: VfDevice) -> None:
        """device_attach, with pci_device_can_probe and pci_match_device."""
        if vf.driver is not None or not (pf.autoprobe or vf.override):
            return
        driver = vf.override or pf.kind.vf_driver
        if driver not in self.loaded or (driver in VFIO_DRIVERS and vf.group is None):
            return
        vf.driver = driver
        vf.read = vf.settings
        if driver == pf.kind.vf_driver and pf.kind.is_nic:
            self._late.append((pf, vf))
            if not self.late_netdevs:
                self.let_time_pass()

    def let_time_pass(self) -> None:
        """Probes end, and udev handles its events."""
        for pf, vf in self._late:
            if vf.driver == pf.kind.vf_driver and vf.netdev is None and vf in pf.vfs:
                vf.netdev = self.add_netdev(self._vf_name(pf, vf), vf.settings.mac or "")
        self._late.clear()
        for netdev in self.netdevs.values():
            netdev.known_to_udev = True

    @staticmethod
    def _vf_name(pf: PfDevice, vf: VfDevice) -> str:
        return f"{pf.netdev.name if pf.netdev else pf.address}v{vf.index}"

    def probe_address(self, address: str) -> None:
        """drivers_probe_store: that no driver binds the device is no error."""
        pf_and_vf = self.vf(address)
        if pf_and_vf is None:
            refuse(errno.ENODEV)
        self.probe(*pf_and_vf)

    def unbind(self, vf: VfDevice) -> None:
        if vf.group_open:
            raise KernelHang(f"{vf.address} is unbound from {vf.driver} while it is in use")
        self._leave(vf)

    def _leave(self, vf: VfDevice) -> None:
        if vf.netdev is not None:
            self.netdevs.pop(vf.netdev.name, None)
        vf.driver, vf.netdev, vf.away, vf.mounted, vf.busy = None, None, False, False, False
