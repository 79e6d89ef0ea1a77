# SPDX-License-Identifier: Apache-2.0
"""rtnetlink's link and address notifications, as the ifindexes that changed.

An `ip link set PF vf 0 vlan 20` by hand sends no uevent, but an RTM_NEWLINK. Only its header is read: most links of
the host are no PFs, and decoding all their messages would be wasted.
"""

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator

_RTMGRP_LINK, _RTMGRP_IPV4_IFADDR, _RTMGRP_IPV6_IFADDR = 0x1, 0x10, 0x100
_LINK_TYPES = {16, 17}  # RTM_NEWLINK, RTM_DELLINK: struct ifinfomsg, its index at byte 4
_ADDRESS_TYPES = {20, 21}  # RTM_NEWADDR, RTM_DELADDR: struct ifaddrmsg, its index at byte 4 too
_HEADER = struct.Struct("=IHHII")
_INDEX = struct.Struct("=i")
_READ = 1 << 16  # of a longer message the end is lost, which is not read
_SO_RCVBUFFORCE = 33
_BUFFER = 1 << 20  # the default holds 92 messages: fewer than 64 VFs send that get a netdev between two reads


class LinkMonitor:
    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        with contextlib.suppress(OSError):  # without CAP_NET_ADMIN it stays small
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        self._socket.bind((0, _RTMGRP_LINK | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self) -> tuple[set[int], bool]:
        """The ifindexes that changed, and whether notifications were lost (then any may have changed)."""
        changed, lost = set[int](), False
        while True:
            try:
                data = self._socket.recv(_READ)
            except BlockingIOError:
                return changed, lost
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                lost = True  # reported once; what is queued can still be read
                continue
            changed.update(_ifindexes(data))

    def close(self) -> None:
        self._socket.close()


def _ifindexes(data: bytes) -> Iterator[int]:
    offset = 0
    while offset + _HEADER.size + 8 <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, offset)
        if kind in _LINK_TYPES or kind in _ADDRESS_TYPES:
            yield _INDEX.unpack_from(data, offset + _HEADER.size + 4)[0]
        if length < _HEADER.size:
            return
        offset += (length + 3) & ~3
