# SPDX-License-Identifier: Apache-2.0
"""Notifications that a bridge of the host has learned or forgotten a MAC.

rtnetlink sends them in one group (RTMGRP_NEIGH) with every change of every ARP entry. A BPF filter passes only those
of bridges: on a host with a thousand neighbours the service would wake up for each.
"""

import ctypes
import errno
import socket
import struct

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


class FdbMonitor:
    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        code = ctypes.create_string_buffer(_program())
        program = struct.pack("HP", len(code) // 8, ctypes.addressof(code))  # struct sock_fprog
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
        self._socket.bind((0, _RTMGRP_NEIGH))

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self) -> None:
        """Discard all notifications: they only say that something changed, and so does an overflow (ENOBUFS)."""
        while True:
            try:
                self._socket.recv(_READ)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise

    def close(self) -> None:
        self._socket.close()
