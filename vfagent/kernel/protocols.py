# SPDX-License-Identifier: Apache-2.0
"""The seam between vfagent and the kernel: what the rest may ask of it, and the bundle that answers."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import field
from typing import Protocol

from vfagent.frozen import frozen
from vfagent.model.network import Address, Borrowed, Link, Move, Route, VlanTag
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import VfSettings


@frozen(slots=True)
class LinkFacts:
    """One netdev as rtnetlink tells it. `vfs` is empty where the driver, or the message's size, hides them."""

    ifindex: int
    name: str
    mac: str
    permanent_mac: str | None
    mtu: int
    admin_up: bool
    carrier: bool
    master: int | None = None
    vfs: Mapping[int, VfSettings] = field(default_factory=dict)


class Sysfs(Protocol):
    """Files below the root, named from it: `sys/bus/pci/devices/…`."""

    def read(self, path: str) -> str | None:
        """The file's text, stripped; None where it is not there or will not be read."""

    def names(self, path: str) -> list[str]:
        """The names in a folder, sorted; none where it is not there."""

    def link(self, path: str) -> str | None:
        """The last part of a symlink's target; None where there is none."""

    def exists(self, path: str) -> bool: ...

    def write(self, path: str, text: str) -> None:
        """Raises OSError."""


class Rtnl(Protocol):
    """rtnetlink, in short-lived sockets. Setters raise OSError with the kernel's errno."""

    def link(self, ifindex: int, *, vfs: bool) -> LinkFacts | None: ...

    def set_vfs(self, ifindex: int, settings: Mapping[int, VfSettings]) -> None:
        """The settings by VF index, in one message. It ends at the first that the kernel refuses; those before hold."""

    def set_mtu(self, ifindex: int, mtu: int) -> None: ...

    def set_admin_state(self, ifindex: int, *, up: bool) -> None: ...

    def hwmode(self, ifindex: int) -> str | None: ...

    def addressed(self) -> frozenset[int]:
        """The ifindex of each netdev that holds an address other than a link-local one."""

    def management(self) -> Mapping[int, str]:
        """The netdevs that routes to whoever administers this host leave by: ifindex, and why."""


class Network(Protocol):
    """The host's own network, by rtnetlink. Setters raise OSError with the kernel's errno."""

    def link(self, which: str | int) -> Link | None:
        """By name or ifindex, without its addresses."""

    def addresses(self) -> Mapping[int, tuple[Address, ...]]:
        """All there are, by ifindex."""

    def add_vlan(self, name: str, parent: int, tag: VlanTag) -> None:
        """A link that is a newborn until it is marked."""

    def add_bridge(self, name: str) -> None: ...

    def mark(self, ifindex: int) -> None: ...

    def set_link(
        self, ifindex: int, *, mtu: int | None = None, up: bool | None = None, master: int | None = None
    ) -> None:
        """`master` 0 releases a port."""

    def set_vlan_filtering(self, ifindex: int, *, on: bool) -> None: ...

    def delete(self, ifindex: int) -> None: ...

    def add_address(self, ifindex: int, address: str, *, managed: bool = True, known_unique: bool = False) -> None: ...

    def remove_address(self, ifindex: int, address: str) -> None: ...

    def fdb(self, ifindex: int) -> frozenset[str]:
        """The unicast entries of a device's own table."""

    def learnt(self, bridge: int) -> tuple[tuple[int, str], ...]:
        """By which port (its ifindex) a bridge reaches which MACs."""

    def add_fdb(self, ifindex: int, mac: str) -> None: ...

    def remove_fdb(self, ifindex: int, mac: str) -> None: ...

    def set_hwmode(self, ifindex: int, mode: str) -> None: ...

    def answers(self, ifindex: int, address: str, within_s: float) -> bool: ...

    def neighbours(self, ifindex: int) -> tuple[str, ...]:
        """The addresses that the kernel has found by this interface."""

    def ask_for(self, ifindex: int, neighbours: Iterable[str]) -> None:
        """Makes the kernel ask for IPv4 neighbours, which tells them where our address is now."""


class Routes(Protocol):
    def by(self, ifindex: int) -> tuple[Route, ...]:
        """Those by one interface that did not come with an address."""

    def put(self, ifindex: int, route: Route) -> None: ...


class Moves(Protocol):
    """The journal of moves of addresses, and of whom they were taken from. `keep` and `borrow` raise OSError."""

    def pending(self) -> tuple[Move, ...]: ...

    def keep(self, move: Move) -> None: ...

    def forget(self, move: Move) -> None: ...

    def borrowed(self) -> tuple[Borrowed, ...]: ...

    def borrow(self, borrowed: Borrowed) -> None: ...

    def give_back(self, address: str) -> None: ...

    def alone(self) -> AbstractContextManager[None]:
        """While no other process moves addresses. Raises TimeoutError."""


class Devlink(Protocol):
    def eswitch_mode(self, address: PciAddress) -> str | None: ...

    def set_eswitch_mode(self, address: PciAddress, mode: str) -> None:
        """Raises OSError."""


class UdevDatabase(Protocol):
    def properties(self, subsystem: str, name: str) -> Mapping[str, str] | None:
        """What udev stored of a device; None while it has not handled it."""


@frozen(slots=True)
class Host:
    """The kernel and udev, as far as one host's PFs are concerned."""

    sysfs: Sysfs
    rtnl: Rtnl
    devlink: Devlink
    udev: UdevDatabase
    network: Network
    routes: Routes
    moves: Moves
