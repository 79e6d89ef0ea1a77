# SPDX-License-Identifier: Apache-2.0
"""That a bridge of the host has learnt a MAC, or forgotten one.

rtnetlink tells it in one group with every change of every ARP entry, so a filter in the kernel lets only the
bridges' through: a host that talks to a thousand others does not wake us for each.
"""

import ctypes
import errno
import socket
import struct

_RTMGRP_NEIGH = 0x4
_AF_BRIDGE = 7
_SO_ATTACH_FILTER = 26
_TYPE_AT, _FAMILY_AT = 4, 16  # in struct nlmsghdr; in struct ndmsg behind it
_NEWNEIGH, _DELNEIGH = 28, 29
_READ = 1 << 16

# linux/filter.h: load a half word, or a byte, at a constant; jump if equal; return.
_LDH, _LDB, _JEQ, _RET = 0x28, 0x30, 0x15, 0x06
_WHOLE = 0xFFFFFFFF


def _program() -> bytes:
    """BPF loads big endian; netlink's numbers are the machine's own."""
    new, gone = (socket.htons(number) for number in (_NEWNEIGH, _DELNEIGH))
    return b"".join(
        struct.pack("=HBBI", *one)
        for one in (
            (_LDH, 0, 0, _TYPE_AT),
            (_JEQ, 1, 0, new),
            (_JEQ, 0, 3, gone),
            (_LDB, 0, 0, _FAMILY_AT),
            (_JEQ, 0, 1, _AF_BRIDGE),
            (_RET, 0, 0, _WHOLE),
            (_RET, 0, 0, 0),
        )
    )


class FdbMonitor:
    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        code = ctypes.create_string_buffer(_program())
        head = struct.pack("HP", len(code) // 8, ctypes.addressof(code))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, head)
        self._socket.bind((0, _RTMGRP_NEIGH))

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self) -> None:
        """Read away what is there. What was lost is as good as what was read: it says only that something changed."""
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
