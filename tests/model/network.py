# SPDX-License-Identifier: Apache-2.0
"""The fake kernel's links, with the real one's rules: net/8021q, net/bridge, devinet.c, rtnetlink.c."""

import errno
from dataclasses import replace
from typing import TYPE_CHECKING

from vfagent.model.network import MANAGED_ALIAS, Address, Borrowed, Link, Move, Route, VlanTag

if TYPE_CHECKING:
    from tests.model.kernel import Kernel

_NO_GROUP = 0


class Links:
    """VLAN interfaces and bridges. The netdevs of cards belong to `Kernel`."""

    def __init__(self, kernel: "Kernel") -> None:
        self._kernel = kernel
        self.created: dict[str, Link] = {}
        self.assigned: dict[int, dict[str, bool]] = {}  # ifindex -> address -> managed
        self.routes: dict[int, list[Route]] = {}
        self.fdb: dict[int, set[str]] = {}
        self.learnt: dict[int, set[tuple[int, str]]] = {}
        self.backups: set[str] = set()  # ports that their bond does not use now
        self.neighbour_macs: dict[int, set[str]] = {}
        self.journal: dict[str, Move] = {}  # outlives a process
        self.borrowed: dict[str, Borrowed] = {}  # outlives a process
        self.reachable: set[tuple[str, str]] = set()  # (interface, address)
        self.joined: dict[int, int] = {}  # port -> master, where vfagent made it a port

    def named(self, name: str) -> Link | None:
        if name in self.created:
            return self.created[name]
        netdev = self._kernel.netdevs.get(name)
        if netdev is None:
            return None
        master = self.created.get(netdev.master or "")
        return Link(
            name, netdev.ifindex, netdev.mac, netdev.mtu, netdev.admin_up, master=master.ifindex if master else None
        )

    def at(self, ifindex: int) -> Link:
        names = (*self.created, *self._kernel.netdevs)
        link = next((link for name in names if (link := self.named(name)) and link.ifindex == ifindex), None)
        if link is None:
            raise OSError(errno.ENODEV, "no such link")
        return link

    def foreign_owner(self, ifindex: int) -> Link | None:
        """Of a port that another program made one."""
        master = self.at(ifindex).master
        if master is None or self.joined.get(ifindex) == master:
            return None
        return None if self.at(master).managed else self.at(master)

    def uppers(self, ifindex: int) -> list[str]:
        """VLAN interfaces on it, and its bridge or bond, as far as it is one of these links."""
        link = self.at(ifindex)
        return [upper.name for upper in self.created.values() if upper.lower == ifindex or upper.ifindex == link.master]

    def add(self, link: Link) -> Link:
        if self.named(link.name):
            raise OSError(errno.EEXIST, "the name exists")
        if link.vlan and any((other.lower, other.vlan) == (link.lower, link.vlan) for other in self.created.values()):
            raise OSError(errno.EEXIST, "vlan_check_real_dev")
        self.created[link.name] = replace(
            link, ifindex=self._kernel.next_ifindex(), mac=f"02:00:00:00:00:{len(self.created):02x}"
        )
        return self.created[link.name]

    def add_vlan(self, name: str, parent: int, tag: VlanTag, group: int = _NO_GROUP) -> Link:
        below = self.at(parent)
        return self.add(Link(name, 0, mtu=below.mtu, kind="vlan", lower=parent, vlan=tag, group=group))

    def add_bridge(self, name: str, group: int = _NO_GROUP) -> Link:
        return self.add(Link(name, 0, kind="bridge", vlan_filtering=False, group=group))

    def change(self, ifindex: int, **fields: object) -> None:
        link = self.at(ifindex)
        if link.name not in self.created:
            raise AssertionError(f"{link.name} is a card's own netdev")
        self._check(link, **fields)  # type: ignore[arg-type]
        self.created[link.name] = replace(link, **fields)  # type: ignore[arg-type]

    def _check(self, link: Link, *, mtu: int | None = None, master: int | None = None, **_: object) -> None:
        below = self.at(link.lower) if link.lower else None
        if mtu and below and mtu > below.mtu:
            raise OSError(errno.ERANGE, "vlan_dev_change_mtu")
        if master and self.at(master).kind != "bridge":
            raise OSError(errno.EINVAL, "not a bridge")

    def bring_up(self, ifindex: int) -> None:
        link = self.at(ifindex)
        if link.lower and not self.at(link.lower).admin_up:
            raise OSError(errno.ENETDOWN, "vlan_dev_open")
        self.change(ifindex, admin_up=True)

    def delete(self, ifindex: int) -> None:
        link = self.at(ifindex)
        del self.created[link.name]
        self.assigned.pop(ifindex, None)
        self.routes.pop(ifindex, None)
        for name, other in list(self.created.items()):
            if other.master == ifindex:
                self.created[name] = replace(other, master=None)

    def parent_gone(self, ifindex: int) -> None:
        """A VLAN interface is removed with its parent."""
        self.fdb.pop(ifindex, None)
        for link in [link for link in self.created.values() if link.lower == ifindex]:
            self.delete(link.ifindex)

    def add_address(self, ifindex: int, address: str, *, managed: bool) -> None:
        addresses = self.assigned.setdefault(self.at(ifindex).ifindex, {})
        if address in addresses:
            raise OSError(errno.EEXIST, "the address exists")
        addresses[address] = managed

    def remove_address(self, ifindex: int, address: str) -> None:
        addresses = self.assigned.get(self.at(ifindex).ifindex, {})
        if address not in addresses:
            raise OSError(errno.EADDRNOTAVAIL, "no such address")
        del addresses[address]
        if not addresses:
            self.routes.pop(ifindex, None)  # fib_disable_ip(); all addresses here are IPv4

    def addresses(self) -> dict[int, tuple[Address, ...]]:
        return {
            ifindex: tuple(Address(text, managed) for text, managed in addresses.items())
            for ifindex, addresses in self.assigned.items()
        }

    def put_route(self, ifindex: int, route: Route, instead_of: int | None = None) -> None:
        by_other = self.routes.get(instead_of or 0, [])
        by_other[:] = [kept for kept in by_other if kept != route]
        by_link = self.routes.setdefault(ifindex, [])
        by_link += [] if route in by_link else [route]

    def links_with(self, address: str) -> list[str]:
        return sorted(self.at(ifindex).name for ifindex, addresses in self.assigned.items() if address in addresses)

    def link_of_route(self, route: Route) -> str | None:
        return next((self.at(ifindex).name for ifindex, routes in self.routes.items() if route in routes), None)

    def managed(self) -> list[str]:
        return sorted(name for name, link in self.created.items() if link.alias == MANAGED_ALIAS)
