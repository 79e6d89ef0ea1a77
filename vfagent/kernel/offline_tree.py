# SPDX-License-Identifier: Apache-2.0
"""A tree copied from another host: sysfs instead of rtnetlink, and nothing can be changed."""

import errno
import os
import re
from collections.abc import Iterable, Mapping
from typing import NoReturn

from vfagent.kernel.neighbours import FdbEntry
from vfagent.kernel.protocols import LinkFacts, Sysfs
from vfagent.model.network import Address, AddressDetails, Link, Route, VlanTag
from vfagent.model.pci import PciAddress
from vfagent.model.port_names import is_representor
from vfagent.model.vf_settings import VfSettings

_SWITCH_ID_MEANS_SWITCHDEV = frozenset({"mlx5_core", "bnxt_en"})
_TAG = re.compile(r"VID: (\d+)")


def _read_only() -> NoReturn:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


class SysfsRtnl:
    def __init__(self, sysfs: Sysfs) -> None:
        self._sysfs = sysfs

    def link(self, ifindex: int, *, vfs: bool) -> LinkFacts | None:
        for name in self._sysfs.names("sys/class/net"):
            base = f"sys/class/net/{name}"
            if self._sysfs.read(f"{base}/ifindex") == str(ifindex):
                return self._facts(base, name, ifindex)
        return None

    def _facts(self, base: str, name: str, ifindex: int) -> LinkFacts:
        master = self._sysfs.read(f"{base}/master/ifindex")
        mac = self._sysfs.read(f"{base}/address") or ""
        # A bond gives its ports one address.
        permanent = self._sysfs.read(f"{base}/bonding_slave/perm_hwaddr") or mac
        return LinkFacts(
            ifindex=ifindex,
            name=name,
            mac=mac,
            permanent_mac=permanent or None,
            mtu=int(self._sysfs.read(f"{base}/mtu") or 0),
            admin_up=bool(int(self._sysfs.read(f"{base}/flags") or "0", 0) & 1),
            carrier=self._sysfs.read(f"{base}/carrier") == "1",
            master=int(master) if master else None,
        )

    def hwmode(self, ifindex: int) -> str | None:
        return None

    def addressed(self) -> frozenset[int]:
        return frozenset()

    def configured(self) -> frozenset[int]:
        return frozenset()

    def management(self) -> Mapping[int, str]:
        return {}

    def set_vfs(self, ifindex: int, settings: Mapping[int, VfSettings]) -> None:
        _read_only()

    def set_mtu(self, ifindex: int, mtu: int) -> None:
        _read_only()

    def set_admin_state(self, ifindex: int, *, up: bool) -> None:
        _read_only()


class SysfsDevlink:
    """The mode of a card by what its netdevs have in sysfs: only in switchdev mode there are representors, and only
    then mlx5 and bnxt name a switch (mlx5e_rep_get_port_parent_id(), bnxt_get_port_parent_id())."""

    def __init__(self, sysfs: Sysfs) -> None:
        self._sysfs = sysfs

    def eswitch_mode(self, address: PciAddress) -> str | None:
        device = f"sys/bus/pci/devices/{address}"
        ports = {name: f"{device}/net/{name}" for name in self._sysfs.names(f"{device}/net")}
        switches = {self._sysfs.read(f"{port}/phys_switch_id") for port in ports.values()} - {None, ""}
        if not switches:
            return "legacy" if ports else None
        names = (f"sys/class/net/{name}" for name in self._sysfs.names("sys/class/net"))
        on_switch = (name for name in names if self._sysfs.read(f"{name}/phys_switch_id") in switches)
        if self._sysfs.link(f"{device}/driver") in _SWITCH_ID_MEANS_SWITCHDEV:
            return "switchdev"
        represented = any(is_representor(self._sysfs.read(f"{name}/phys_port_name")) for name in on_switch)
        return "switchdev" if represented else "legacy"

    def set_eswitch_mode(self, address: PciAddress, mode: str) -> None:
        _read_only()


class SysfsNetwork:
    """Bridges, bonds, Open vSwitch, VLAN interfaces, and what has a device, as representors have: of other links sysfs
    does not show the kind, nor addresses of any."""

    def __init__(self, sysfs: Sysfs) -> None:
        self._sysfs = sysfs

    def link(self, which: str | int) -> Link | None:
        names = self._sysfs.names("sys/class/net") if isinstance(which, int) else [which]
        for name in names:
            ifindex = self._sysfs.read(f"sys/class/net/{name}/ifindex")
            if not ifindex or which not in (name, int(ifindex)):
                continue
            kind = self._kind(name)
            if kind or self._sysfs.exists(f"sys/class/net/{name}/device"):
                return self._link(name, int(ifindex), kind)
        return None

    def _kind(self, name: str) -> str | None:
        """A copy of sysfs may lack folders: then the names count that bonding and Open vSwitch give themselves."""
        base = f"sys/class/net/{name}"
        if self._sysfs.exists(f"{base}/bridge"):
            return "bridge"
        if self._sysfs.exists(f"{base}/bonding") or re.fullmatch(r"bond\d+", name):
            return "bond"
        if self._devtype(base) == "vlan":
            return "vlan"
        return "openvswitch" if name == "ovs-system" else None

    def _devtype(self, base: str) -> str | None:
        """register_vlan_device() and others set a type, which the uevent file has."""
        words = (self._sysfs.read(f"{base}/uevent") or "").split()
        return next((word.removeprefix("DEVTYPE=") for word in words if word.startswith("DEVTYPE=")), None)

    def _tag(self, name: str) -> VlanTag | None:
        """From /proc/net/vlan, or where the copy lacks it, by the name: ens1.10, vlan10."""
        shown = _TAG.search(self._sysfs.read(f"proc/net/vlan/{name}") or "")
        named = re.search(r"(?:\.|^vlan)(\d{1,4})$", name)
        tag = shown or named
        return VlanTag(int(tag[1])) if tag else None

    def _link(self, name: str, ifindex: int, kind: str | None) -> Link:
        base = f"sys/class/net/{name}"
        master, filtering = (self._sysfs.read(f"{base}/{file}") for file in ("master/ifindex", "bridge/vlan_filtering"))
        return Link(
            name=name,
            ifindex=ifindex,
            mac=self._sysfs.read(f"{base}/address") or "",
            mtu=int(self._sysfs.read(f"{base}/mtu") or 0),
            admin_up=bool(int(self._sysfs.read(f"{base}/flags") or "0", 0) & 1),
            kind=kind,
            alias=self._sysfs.read(f"{base}/ifalias") or None,
            group=int(self._sysfs.read(f"{base}/netdev_group") or 0),
            master=int(master) if master else None,
            lower=int(lower) if kind == "vlan" and (lower := self._sysfs.read(f"{base}/iflink")) else None,
            vlan=self._tag(name) if kind == "vlan" else None,
            vlan_filtering=filtering == "1" if filtering else None,
        )

    def addresses(self) -> Mapping[int, tuple[Address, ...]]:
        return {}

    def fdb(self, ifindex: int) -> frozenset[str]:
        return frozenset()

    def learnt(self, bridge: int) -> tuple[FdbEntry, ...]:
        return ()

    def neighbour_macs(self) -> Mapping[int, frozenset[str]]:
        return {}

    def by(self, ifindex: int) -> tuple[Route, ...]:
        return ()

    def answers(self, ifindex: int, address: str, within_s: float) -> bool:
        return False

    def neighbours(self, ifindex: int) -> tuple[str, ...]:
        return ()

    def ask_for(self, ifindex: int, neighbours: Iterable[str]) -> None:
        _read_only()

    def put(self, ifindex: int, route: Route, instead_of: int | None) -> None:
        _read_only()

    def add_vlan(self, name: str, parent: int, tag: VlanTag) -> None:
        _read_only()

    def add_bridge(self, name: str) -> None:
        _read_only()

    def mark(self, ifindex: int) -> None:
        _read_only()

    def set_link(
        self, ifindex: int, *, mtu: int | None = None, up: bool | None = None, master: int | None = None
    ) -> None:
        _read_only()

    def set_vlan_filtering(self, ifindex: int, *, on: bool) -> None:
        _read_only()

    def delete(self, ifindex: int) -> None:
        _read_only()

    def add_address(
        self,
        ifindex: int,
        address: str,
        *,
        managed: bool = True,
        known_unique: bool = False,
        details: AddressDetails | None = None,
    ) -> None:
        _read_only()

    def remove_address(self, ifindex: int, address: str, *, peer: str | None = None) -> None:
        _read_only()

    def add_fdb(self, ifindex: int, mac: str) -> None:
        _read_only()

    def remove_fdb(self, ifindex: int, mac: str) -> None:
        _read_only()

    def set_hwmode(self, ifindex: int, mode: str) -> None:
        _read_only()
