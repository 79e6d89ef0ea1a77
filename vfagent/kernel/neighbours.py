# SPDX-License-Identifier: Apache-2.0
"""RTM_GETNEIGH by struct alone: the FDBs of bridges and devices, and the host's neighbours.

A guest that sends from thousands of MACs makes as many entries: pyroute2 takes a hundred times as long for each.
"""

import struct
from collections.abc import Iterator, Mapping

from vfagent.frozen import frozen
from vfagent.kernel.netlink import NUMBER, attributes, dump

_RTM_GETNEIGH = 30
_AF_UNSPEC, _AF_BRIDGE = 0, 7
NEIGHBOUR = struct.Struct("=BxxxiHBB")  # struct ndmsg
_NDA_LLADDR, _NDA_MASTER = 2, 9
NTF_SELF = 0x02
_REACHABLE, _STALE, _DELAY, _PROBE, _NOARP, _PERMANENT = 0x02, 0x04, 0x08, 0x10, 0x40, 0x80  # NUD_*
_KNOWN = _REACHABLE | _STALE | _DELAY | _PROBE | _PERMANENT
_MAC_BYTES = 6


@frozen(slots=True)
class FdbEntry:
    """A unicast entry. `own`: of the device itself, not of a bridge that it is a port of. `static`: it does not age."""

    ifindex: int
    master: int | None
    mac: str
    own: bool
    static: bool


def fdb_entries() -> Iterator[FdbEntry]:
    """The entries of all bridges and devices, without what is the bridges' own: their and their ports' MACs."""
    for ifindex, state, flags, mac, master in _entries(_AF_BRIDGE):
        own = bool(flags & NTF_SELF)
        if own or not state & _PERMANENT:
            yield FdbEntry(ifindex, master, mac.hex(":"), own, static=bool(state & (_NOARP | _PERMANENT)))


def neighbour_macs() -> Mapping[int, frozenset[str]]:
    """The MACs of the host's neighbours (ARP, NDP), by ifindex."""
    macs: dict[int, set[str]] = {}
    for ifindex, state, _, mac, _ in _entries(_AF_UNSPEC):
        if state & _KNOWN:
            macs.setdefault(ifindex, set()).add(mac.hex(":"))
    return {ifindex: frozenset(known) for ifindex, known in macs.items()}


def _entries(family: int) -> Iterator[tuple[int, int, int, bytes, int | None]]:
    """ifindex, state, flags, unicast MAC, and the bridge."""
    for body in dump(_RTM_GETNEIGH, NEIGHBOUR.pack(family, 0, 0, 0, 0)):
        if len(body) < NEIGHBOUR.size:
            continue
        _, ifindex, state, flags, _ = NEIGHBOUR.unpack_from(body)
        mac, master = mac_and_master(body)
        if mac:
            yield ifindex, state, flags, mac, master


def mac_and_master(body: bytes) -> tuple[bytes | None, int | None]:
    """Of one message: the MAC if it is a unicast one, and the bridge."""
    values = dict(attributes(body, NEIGHBOUR.size))
    mac, master = values.get(_NDA_LLADDR, b""), values.get(_NDA_MASTER, b"")
    unicast = len(mac) == _MAC_BYTES and not mac[0] & 1
    return mac if unicast else None, NUMBER.unpack_from(master)[0] if len(master) >= NUMBER.size else None
