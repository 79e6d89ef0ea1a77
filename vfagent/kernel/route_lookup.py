# SPDX-License-Identifier: Apache-2.0
"""RTM_GETROUTE by struct alone: the interfaces by which the kernel reaches an address."""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

from vfagent.frozen import frozen
from vfagent.kernel import netlink
from vfagent.kernel.netlink import HEADER, NUMBER, attribute, attributes

_RTM_GETROUTE, _RTM_NEWROUTE = 26, 24
_RTA_DST, _RTA_SRC, _RTA_OIF, _RTA_MULTIPATH = 1, 2, 4, 9
_RTM_F_FIB_MATCH = 0x2000  # the matching route with all its nexthops, not the one that a packet would take
_RTN_UNICAST = 1
_RTPROT_RA = 9
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEXT_HOP = struct.Struct("=HBBi")
_READ = 1 << 16


@frozen(slots=True)
class Way:
    """The route to an address: its destination's prefix length, the interfaces of its nexthops, and whether a router
    advertised it."""

    prefix_length: int
    ifindexes: frozenset[int]
    advertised: bool = False


_NO_WAY = Way(0, frozenset())


@dataclass(slots=True)
class RouteLookup:
    """One socket for any number of lookups."""

    _kernel: socket.socket = field(default_factory=netlink.opened)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._kernel.close()

    def way(self, address: bytes, source: bytes = b"") -> Way:
        """The route to an address; without interfaces where it is unreachable, or the host's own."""
        matched = self._ask(address, source, _RTM_F_FIB_MATCH)
        if matched is None or matched.ifindexes:
            return matched or _NO_WAY
        # With net.ipv4.nexthop_compat_mode 0 the kernel leaves out the nexthops of a route by nexthop object.
        resolved = self._ask(address, source, 0)
        return Way(matched.prefix_length, resolved.ifindexes if resolved else frozenset(), matched.advertised)

    def _ask(self, address: bytes, source: bytes, flags: int) -> Way | None:
        bits, family = 8 * len(address), socket.AF_INET if len(address) == 4 else socket.AF_INET6
        body = _ROUTE.pack(family, bits, 8 * len(source), 0, 0, 0, 0, 0, flags) + attribute(_RTA_DST, address)
        body += attribute(_RTA_SRC, source) if source else b""
        netlink.send(self._kernel, _RTM_GETROUTE, body)
        return _way_in(self._kernel.recv(_READ))


def _way_in(message: bytes) -> Way | None:
    """None for an error (ENETUNREACH, a blackhole's EINVAL), and for routes that are not unicast."""
    _, kind, *_ = HEADER.unpack_from(message)
    if kind != _RTM_NEWROUTE or len(message) < HEADER.size + _ROUTE.size:
        return None
    _, prefix_length, _, _, _, protocol, _, route_type, _ = _ROUTE.unpack_from(message, HEADER.size)
    if route_type != _RTN_UNICAST:
        return None
    values = dict(attributes(message, HEADER.size + _ROUTE.size))
    single = {NUMBER.unpack(values[_RTA_OIF])[0]} if _RTA_OIF in values else set[int]()
    next_hops = frozenset(single | set(_next_hops(values.get(_RTA_MULTIPATH, b""))))
    return Way(prefix_length, next_hops, protocol == _RTPROT_RA)


def _next_hops(data: bytes) -> Iterator[int]:
    offset = 0
    while offset + _NEXT_HOP.size <= len(data):
        length, _, _, ifindex = _NEXT_HOP.unpack_from(data, offset)
        if length < _NEXT_HOP.size:
            return
        yield ifindex
        offset += (length + 3) & ~3
