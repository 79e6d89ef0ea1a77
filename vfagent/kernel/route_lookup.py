# SPDX-License-Identifier: Apache-2.0
"""RTM_GETROUTE by struct alone: by which interfaces the kernel would reach an address."""

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
_RTM_F_FIB_MATCH = 0x2000  # the route that matches with all its ways, not the one way that this packet would take
_RTN_UNICAST = 1
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEXT_HOP = struct.Struct("=HBBi")
_READ = 1 << 16


@frozen(slots=True)
class Way:
    """The route that an address is reached by; `prefix_length` is that of its destination."""

    prefix_length: int
    ifindexes: frozenset[int]


_NO_WAY = Way(0, frozenset())


@dataclass(slots=True)
class RouteLookup:
    """A socket for any number of questions."""

    _kernel: socket.socket = field(default_factory=netlink.opened)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._kernel.close()

    def way(self, address: bytes, source: bytes = b"") -> Way:
        """Without interfaces where it cannot be reached, or is this host's own."""
        matched = self._ask(address, source, _RTM_F_FIB_MATCH)
        if matched is None or matched.ifindexes:
            return matched or _NO_WAY
        # A route by nexthop object has its ways left out where net.ipv4.nexthop_compat_mode is 0.
        taken = self._ask(address, source, 0)
        return Way(matched.prefix_length, taken.ifindexes if taken else frozenset())

    def _ask(self, address: bytes, source: bytes, flags: int) -> Way | None:
        bits, family = 8 * len(address), socket.AF_INET if len(address) == 4 else socket.AF_INET6
        body = _ROUTE.pack(family, bits, 8 * len(source), 0, 0, 0, 0, 0, flags) + attribute(_RTA_DST, address)
        body += attribute(_RTA_SRC, source) if source else b""
        netlink.send(self._kernel, _RTM_GETROUTE, body)
        return _way_in(self._kernel.recv(_READ))


def _way_in(message: bytes) -> Way | None:
    """None for an error (ENETUNREACH, a blackhole's EINVAL), and for what is not sent to another host."""
    _, kind, *_ = HEADER.unpack_from(message)
    if kind != _RTM_NEWROUTE or len(message) < HEADER.size + _ROUTE.size:
        return None
    _, prefix_length, _, _, _, _, _, route_type, _ = _ROUTE.unpack_from(message, HEADER.size)
    if route_type != _RTN_UNICAST:
        return None
    found = dict(attributes(message, HEADER.size + _ROUTE.size))
    only = {NUMBER.unpack(found[_RTA_OIF])[0]} if _RTA_OIF in found else set[int]()
    return Way(prefix_length, frozenset(only | set(_next_hops(found.get(_RTA_MULTIPATH, b"")))))


def _next_hops(data: bytes) -> Iterator[int]:
    offset = 0
    while offset + _NEXT_HOP.size <= len(data):
        length, _, _, ifindex = _NEXT_HOP.unpack_from(data, offset)
        if length < _NEXT_HOP.size:
            return
        yield ifindex
        offset += (length + 3) & ~3
