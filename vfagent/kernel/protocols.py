# SPDX-License-Identifier: Apache-2.0
"""Protocols of the kernel adapters, and the bundle of them that the other packages use."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import field
from typing import Protocol

from vfagent.frozen import frozen
from vfagent.kernel.neighbours import FdbEntry
from vfagent.model.network import Address, AddressDetails, Borrowed, Link, Move, Route, VlanTag
from vfagent.model.numvfs_lock import NumvfsOwner
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import VfSettings


@frozen(slots=True)
class LinkFacts:
    """One netdev as rtnetlink reports it. `vfs` is empty where the driver or the message's size does not allow them."""

    ifindex: int
    name: str
    mac: str
    permanent_mac: str | None
    mtu: int
    admin_up: bool
    carrier: bool
    master: int | None = None
    altnames: tuple[str, ...] = ()
    vfs: Mapping[int, VfSettings] = field(default_factory=dict)


class Sysfs(Protocol):
    """Files below the root, by their paths from it: `sys/bus/pci/devices/…`."""

    def read(self, path: str) -> str | None:
        """The file's text, stripped; None where it is missing or cannot be read."""

    def names(self, path: str) -> list[str]:
        """The names in a folder, sorted; none where it is missing."""

    def link(self, path: str) -> str | None:
        """The last part of a symbolic link's target; None where there is no link."""

    def exists(self, path: str) -> bool: ...

    def write(self, path: str, text: str) -> None:
        """Raises OSError."""


class Rtnl(Protocol):
    """rtnetlink, in short-lived sockets. Setters raise OSError with the kernel's errno."""

    def link(self, ifindex: int, *, vfs: bool) -> LinkFacts | None: ...

    def set_vfs(self, ifindex: int, settings: Mapping[int, VfSettings]) -> None:
        """Sets VFs by index, in one message. The kernel stops at the first that it refuses; those before it are set."""

    def set_mtu(self, ifindex: int, mtu: int) -> None: ...

    def set_admin_state(self, ifindex: int, *, up: bool) -> None: ...

    def hwmode(self, ifindex: int) -> str | None: ...

    def addressed(self) -> frozenset[int]:
        """The ifindex of each netdev that holds an address other than a link-local one."""

    def configured(self) -> frozenset[int]:
        """The same, without those whose every address the kernel made of a router's advertisement."""

    def management(self) -> Mapping[int, str]:
        """The netdevs by which this host is administered: the reason by ifindex."""


class Network(Protocol):
    """The host's own network, by rtnetlink. Setters raise OSError with the kernel's errno."""

    def link(self, which: str | int) -> Link | None:
        """A link by name or ifindex."""

    def addresses(self) -> Mapping[int, tuple[Address, ...]]:
        """All addresses, by ifindex."""

    def add_vlan(self, name: str, parent: int, tag: VlanTag) -> None:
        """The link is unmarked until `mark`."""

    def add_bridge(self, name: str) -> None: ...

    def mark(self, ifindex: int) -> None: ...

    def set_link(
        self, ifindex: int, *, mtu: int | None = None, up: bool | None = None, master: int | None = None
    ) -> None:
        """`master` 0 releases a port."""

    def set_vlan_filtering(self, ifindex: int, *, on: bool) -> None: ...

    def delete(self, ifindex: int) -> None: ...

    def add_address(
        self,
        ifindex: int,
        address: str,
        *,
        managed: bool = True,
        known_unique: bool = False,
        details: AddressDetails | None = None,
    ) -> None:
        """Without `details`: with those that `ip address add` gives it."""

    def remove_address(self, ifindex: int, address: str, *, peer: str | None = None) -> None:
        """`peer`: the other end's address, where it has one."""

    def fdb(self, ifindex: int) -> frozenset[str]:
        """The unicast entries of a device's own FDB."""

    def learnt(self, bridge: int) -> tuple[FdbEntry, ...]:
        """The MACs that a bridge reaches by its ports, without its own and its ports' MACs."""

    def neighbour_macs(self) -> Mapping[int, frozenset[str]]:
        """The MACs of the host's neighbours (ARP, NDP), by ifindex."""

    def add_fdb(self, ifindex: int, mac: str) -> None: ...

    def remove_fdb(self, ifindex: int, mac: str) -> None: ...

    def set_hwmode(self, ifindex: int, mode: str) -> None: ...

    def answers(self, ifindex: int, address: str, within_s: float) -> bool: ...

    def neighbours(self, ifindex: int) -> tuple[str, ...]:
        """The addresses that the kernel has resolved on this interface."""

    def ask_for(self, ifindex: int, neighbours: Iterable[str]) -> None:
        """Makes the kernel send ARP requests, from which these neighbours learn the MAC of our address."""


class Routes(Protocol):
    def by(self, ifindex: int) -> tuple[Route, ...]:
        """The routes by one interface, without those that the kernel adds with an address."""

    def put(self, ifindex: int, route: Route, instead_of: int | None) -> None:
        """The route by this interface in the place of the same by that one; routes by others stay."""


class Moves(Protocol):
    """The journal of address moves, and of borrowed addresses. `keep` and `borrow` raise OSError."""

    def pending(self) -> tuple[Move, ...]: ...

    def keep(self, move: Move) -> None: ...

    def forget(self, move: Move) -> None: ...

    def borrowed(self) -> tuple[Borrowed, ...]: ...

    def borrow(self, borrowed: Borrowed) -> None: ...

    def give_back(self, address: str) -> None: ...

    def alone(self) -> AbstractContextManager[None]:
        """Only one process at a time moves addresses. Raises TimeoutError."""


class NumvfsToken(Protocol):
    """The one place of this host to write `sriov_numvfs`, on a kernel that does it for one card at a time."""

    def take(self, within_s: float) -> bool:
        """Waits for it for so long. Whether this process has it now; else it still waits, until `free`."""

    def owner(self) -> NumvfsOwner | None: ...

    def write(self, owner: NumvfsOwner) -> None:
        """Says, once it is taken, for which PF and until when."""

    def free(self) -> None: ...


@frozen(slots=True)
class Mount:
    """A mounted file system. `number` is the device's, as `259:1`; None where the file has none.

    `source` is what the file system says: of FUSE, any user's text.
    """

    number: str | None
    source: str
    point: str
    kind: str = ""


@frozen(slots=True)
class RdmaDevice:
    """An RDMA device. `opened`: a process has it open."""

    index: int
    opened: bool


class DeviceUsers(Protocol):
    """Who uses the host's devices, where sysfs does not show it. None: it cannot be read."""

    def mounts(self) -> tuple[Mount, ...] | None: ...

    def swaps(self) -> tuple[str, ...] | None:
        """The path of each swap area."""

    def rdma_devices(self) -> Mapping[str, RdmaDevice] | None: ...

    def rdma_services(self, index: int) -> tuple[str, ...] | None:
        """The kernel's own users of an RDMA device, by their modules."""


class Devlink(Protocol):
    def eswitch_mode(self, address: PciAddress) -> str | None: ...

    def set_eswitch_mode(self, address: PciAddress, mode: str) -> None:
        """Raises OSError."""


class UdevDatabase(Protocol):
    def properties(self, subsystem: str, name: str) -> Mapping[str, str] | None:
        """The properties in udev's database; None while udev has not initialized the device."""


@frozen(slots=True)
class Interface:
    """What configuration files tell interfaces by. `managed`: vfagent created it."""

    name: str
    macs: tuple[str, ...] = ()
    driver: str | None = None
    kind: str | None = None
    managed: bool = False
    properties: Mapping[str, str] = field(default_factory=dict)  # of udev


class Owners(Protocol):
    def owner(self, interface: Interface) -> str | None:
        """The program that is to configure an interface's addresses, with its file where it has one."""


class Nobody:
    """No program configures interfaces."""

    def owner(self, interface: Interface) -> str | None:
        return None


@frozen(slots=True)
class Host:
    """The adapters to the kernel and udev of one host."""

    sysfs: Sysfs
    rtnl: Rtnl
    devlink: Devlink
    udev: UdevDatabase
    network: Network
    routes: Routes
    moves: Moves
    device_users: DeviceUsers
    numvfs: NumvfsToken | None = None  # None: on this kernel cards do not wait for each other
    assume_idle: bool = False  # the rule of the PF that is reconciled says so, for the check right before a step
    owners: Owners = Nobody()
