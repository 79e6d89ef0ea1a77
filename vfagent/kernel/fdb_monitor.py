# SPDX-License-Identifier: Apache-2.0
"""Notifications that a bridge of the host has learned or forgotten a MAC, or that a device has lost an entry.

rtnetlink sends them in one group (RTMGRP_NEIGH) with every change of every ARP entry. A BPF filter passes only those
of bridges: on a host with a thousand neighbours the service would wake up for each.
"""

import ctypes
import errno
import socket
import struct
from collections.abc import Iterator

from vfagent.frozen import frozen
from vfagent.kernel.neighbours import NEIGHBOUR, NTF_SELF, mac_and_master
from vfagent.kernel.netlink import HEADER

_RTMGRP_NEIGH = 0x4
_AF_BRIDGE = 7
_SO_ATTACH_FILTER = 26
_TYPE_OFFSET, _FAMILY_OFFSET = 4, 16  # in struct nlmsghdr; in struct ndmsg behind it
_NEWNEIGH, _DELNEIGH = 28, 29
_READ = 1 << 16

# linux/filter.h: load a half word, or a byte, at a constant; jump if equal; return.
_LDH, _LDB, _JEQ, _RET = 0x28, 0x30, 0x15, 0x06
_WHOLE = 0xFFFFFFFF


def _program() -> bytes:
    """BPF loads big endian; netlink's numbers are in host byte order."""
    new, deleted = (socket.htons(number) for number in (_NEWNEIGH, _DELNEIGH))
    instructions = (
        (_LDH, 0, 0, _TYPE_OFFSET),
        (_JEQ, 1, 0, new),
        (_JEQ, 0, 3, deleted),
        (_LDB, 0, 0, _FAMILY_OFFSET),
        (_JEQ, 0, 1, _AF_BRIDGE),
        (_RET, 0, 0, _WHOLE),
        (_RET, 0, 0, 0),
    )
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)


@frozen(slots=True)
class FdbChange:
    """An entry of a bridge's FDB, with its port, came or went. Without `bridge`: an entry of the device's own went."""

    ifindex: int
    bridge: int | None
    mac: str


class FdbMonitor:
    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        code = ctypes.create_string_buffer(_program())
        program = struct.pack("HP", len(code) // 8, ctypes.addressof(code))  # struct sock_fprog
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
        self._socket.bind((0, _RTMGRP_NEIGH))

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self) -> tuple[set[FdbChange], bool]:
        """What changed, and whether notifications were lost: then anything may have changed."""
        changes, lost = set[FdbChange](), False
        while True:
            try:
                changes.update(_changes(self._socket.recv(_READ)))
            except BlockingIOError:
                return changes, lost
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                lost = True

    def close(self) -> None:
        self._socket.close()


def _changes(data: bytes) -> Iterator[FdbChange]:
    offset = 0
    while offset + HEADER.size + NEIGHBOUR.size <= len(data):
        length, kind, *_ = HEADER.unpack_from(data, offset)
        if length < HEADER.size + NEIGHBOUR.size:
            return
        body = data[offset + HEADER.size : offset + length]
        _, ifindex, _, flags, _ = NEIGHBOUR.unpack_from(body)
        mac, bridge = mac_and_master(body)
        own = bool(flags & NTF_SELF)
        if mac and not (own and kind == _NEWNEIGH):
            yield FdbChange(ifindex, None if own else bridge, mac.hex(":"))
        offset += (length + 3) & ~3
