# SPDX-License-Identifier: Apache-2.0
"""The host's own network on a PF: VLAN interfaces, bridges, addresses and the routes that depend on them."""

from dataclasses import field

from vfagent.frozen import frozen
from vfagent.model.autoconf import Ipv6Conf
from vfagent.model.vf_settings import VlanProtocol

MANAGED_ALIAS = "vfagent"
"""The ifalias of interfaces that vfagent created. Only these are ever removed."""

UNMARKED_GROUP = 0x76666167
"""The link group of interfaces that have no ifalias yet: RTM_NEWLINK sets it when it creates the interface."""

# Why the host may be administered through an interface. A kernel takes the second one by itself.
DEFAULT_ROUTE = "carries the default route"
ADVERTISED_ROUTE = "carries a default route that a router advertised"

# Bridge ports behind which is only this host: a guest's tap, a container's veth. Their MACs are not on the wire.
LOCAL_KINDS = frozenset({"tun", "veth", "dummy", "macvtap", "netkit"})


@frozen
class VlanTag:
    """The tag of a VLAN interface."""

    id: int
    protocol: VlanProtocol = VlanProtocol.DOT1Q

    def __str__(self) -> str:
        return f"{self.protocol} id {self.id}"


@frozen
class AddressDetails:
    """What an address has that the policy does not say, with rtnetlink's numbers (if_addr.h)."""

    scope: int = 0
    peer: str | None = None  # the other end's address, to which the prefix length belongs then
    broadcast: str | None = None
    label: str | None = None  # begins with the interface's name
    metric: int | None = None  # of the route that the kernel adds with it


@frozen
class Address:
    """An address of a link. `managed`: vfagent added it (marked by IFA_PROTO)."""

    text: str  # with its prefix length
    managed: bool = False
    details: AddressDetails = field(default=AddressDetails(), compare=False)

    @property
    def link_local(self) -> bool:
        """fe80::/10, which the kernel itself adds."""
        return self.text[:3].lower() in ("fe8", "fe9", "fea", "feb") and ":" in self.text


@frozen
class Link:
    """A netdev of the host's network. `vlan` and `lower` are set for VLAN interfaces; `lower` is an ifindex."""

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
    passthru: bool = False  # a macvlan or macvtap that gets every frame of `lower`
    addresses: tuple[Address, ...] = ()
    management: str | None = None  # why the host may be administered through it
    ipv6: Ipv6Conf | None = None  # of a managed link; None without IPv6, or where a program is to configure it
    peers: tuple[str, ...] = field(default=(), compare=False)  # known neighbours, if addresses are to be moved from it

    @property
    def managed(self) -> bool:
        return self.alias == MANAGED_ALIAS or self.unmarked

    @property
    def unmarked(self) -> bool:
        """Created by vfagent, which ended before it set the ifalias."""
        return self.alias is None and self.group == UNMARKED_GROUP

    def holds(self, address: str) -> bool:
        return any(held.text == address for held in self.addresses)


@frozen
class Move:
    """A move of addresses from one interface to another. It is stored before the first address is moved.

    `routes` are the routes that move with them, as they were on the source. `foreign` are the addresses that vfagent
    did not add to the source. `back`: returns the addresses to the interface they were borrowed from, where vfagent
    does not manage them. `peers` are the neighbours that the source knew before the move.
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
        """Whether vfagent manages an address once it is on that interface."""
        return not self.back if on == self.target else address not in self.foreign


@frozen
class Borrowed:
    """A foreign address that a rule moved away from its interface, where it had these details."""

    address: str
    source: str
    details: AddressDetails = AddressDetails()


@frozen
class Route:
    """A route through one interface, with rtnetlink's numbers (rtnetlink.h).

    `immovable`: why it cannot be put on another interface as it is, and what to do about it.
    """

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
    congestion_control: str | None = None
    onlink: bool = False
    kind: int = 1  # RTN_UNICAST
    realms: int | None = None
    preference: int | None = None  # of a router (RFC 4191)
    immovable: tuple[str, str] | None = None


@frozen
class Representor:
    """The representor of a VF in switchdev mode."""

    index: int
    name: str
    ifindex: int
    admin_up: bool = False
    master: str | None = None
    pf_number: int = 0
    ipv6: Ipv6Conf | None = None  # None without IPv6, or where a program is to configure it


@frozen
class HostNetwork:
    """The host's own network on one PF: links that the policy names or vfagent created, and what is above the PF.

    `fdb` are the static entries of the PF's own FDB, `learnt` the MACs behind local ports of bridges that may go into
    it. `crowded` and `on_the_wire` say what may not: plan/local_macs.py. `wire` are the host's neighbours through these
    bridges that were on the wire when they were first seen.
    """

    links: tuple[Link, ...] = ()
    fdb: frozenset[str] = frozenset()
    learnt: tuple[tuple[str, str], ...] = ()  # (bridge, MAC)
    crowded: tuple[str, ...] = ()  # ports
    on_the_wire: tuple[tuple[str, str], ...] = ()  # (port, MAC)
    wire: frozenset[str] = frozenset()
    uplinks: frozenset[int] = frozenset()  # ports of these bridges, by ifindex, behind which is more than this host
    moves: tuple[Move, ...] = ()  # started and not known to be complete
    borrowed: tuple[Borrowed, ...] = ()
    representors: tuple[Representor, ...] = ()
    bond_backup: bool = False  # the PF is a bond's port through which the bond receives nothing now
    new_link_ipv6: Ipv6Conf | None = None  # what a new link begins with; None without IPv6

    joined: frozenset[tuple[str, str]] = frozenset()  # (port, foreign bridge): ports that vfagent put into it

    def named(self, name: str | None) -> Link | None:
        return next((link for link in self.links if link.name == name), None)

    def at(self, ifindex: int | None) -> Link | None:
        return next((link for link in self.links if link.ifindex == ifindex), None)
