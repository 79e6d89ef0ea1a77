# SPDX-License-Identifier: Apache-2.0
"""The host's own network around a PF: VLAN devices, bridges, addresses and the routes that depend on them."""

from dataclasses import field

from vfagent.frozen import frozen
from vfagent.model.vf_settings import VlanProtocol

MANAGED_ALIAS = "vfagent"
"""The ifalias of what vfagent made. Only that is ever removed."""

UNMARKED_GROUP = 0x76666167
"""The link group of what vfagent is about to mark: it is given in the same message that makes the device."""

# Ports behind which is this host alone: a guest's tap, a container's veth. What they hold was not learnt from a wire.
LOCAL_KINDS = frozenset({"tun", "veth", "dummy", "macvtap", "netkit"})


@frozen
class VlanTag:
    """What a VLAN device puts on its frames."""

    id: int
    protocol: VlanProtocol = VlanProtocol.DOT1Q

    def __str__(self) -> str:
        return f"{self.protocol} id {self.id}"


@frozen
class Address:
    """An address of a link. `managed`: vfagent put it there (IFA_PROTO says so)."""

    text: str  # with its prefix length
    managed: bool = False


@frozen
class Link:
    """A netdev of the host's network. `vlan` and `lower` are a VLAN device's; `lower` is an ifindex."""

    name: str
    ifindex: int
    mac: str = ""
    mtu: int = 1500
    admin_up: bool = False
    kind: str | None = None
    alias: str | None = None
    group: int = 0
    master: int | None = None
    lower: int | None = None
    vlan: VlanTag | None = None
    vlan_filtering: bool | None = None
    addresses: tuple[Address, ...] = ()
    management: str | None = None  # why cutting it could cut off whoever administers the host
    peers: tuple[str, ...] = field(default=(), compare=False)  # known neighbours, where addresses are to leave it

    @property
    def managed(self) -> bool:
        return self.alias == MANAGED_ALIAS or self.unmarked

    @property
    def unmarked(self) -> bool:
        """Made by a vfagent that did not live to mark it."""
        return self.alias is None and self.group == UNMARKED_GROUP

    def holds(self, address: str) -> bool:
        return any(one.text == address for one in self.addresses)


@frozen
class Move:
    """Addresses on their way from one interface to another: what is stored before the first of them moves.

    `routes` are those that were moved with them, as the source had them. `foreign` are the addresses that vfagent
    had not put on the source. `back`: to where they were taken from, and where vfagent has no part in them. `peers` are
    the neighbours that were known by the source while it could still be asked.
    """

    source: str
    target: str
    addresses: tuple[str, ...]
    probe: str | None = None
    routes: tuple["Route", ...] = ()
    foreign: tuple[str, ...] = ()
    back: bool = False
    peers: tuple[str, ...] = field(default=(), compare=False)

    def is_managed(self, address: str, on: str) -> bool:
        """Whether vfagent answers for an address where it is put."""
        return not self.back if on == self.target else address not in self.foreign


@frozen
class Borrowed:
    """An address that somebody had put on an interface, before a rule moved it elsewhere."""

    address: str
    source: str


@frozen
class Route:
    """A route by one interface, as rtnetlink's numbers tell it."""

    family: int
    destination: str | None  # None: the default route
    gateway: str | None
    table: int
    priority: int | None = None
    source: str | None = None  # the preferred source address
    protocol: int = 0
    scope: int = 0
    tos: int = 0
    metrics: tuple[tuple[str, int], ...] = ()
    onlink: bool = False


@frozen
class Representor:
    """The netdev that stands for a VF in switchdev mode."""

    index: int
    name: str
    ifindex: int
    admin_up: bool = False
    master: str | None = None
    pf_number: int = 0


@frozen
class HostNetwork:
    """What concerns one PF's legs: the links that the policy names or vfagent made, and the ports of their bridges.

    `fdb` are the static entries of the PF's own table, `learnt` the MACs that each bridge knows behind local ports.
    """

    links: tuple[Link, ...] = ()
    fdb: frozenset[str] = frozenset()
    learnt: tuple[tuple[str, str], ...] = ()  # (bridge, MAC)
    moves: tuple[Move, ...] = ()  # begun, and not known to have ended
    borrowed: tuple[Borrowed, ...] = ()
    representors: tuple[Representor, ...] = ()

    def named(self, name: str | None) -> Link | None:
        return next((link for link in self.links if link.name == name), None)
