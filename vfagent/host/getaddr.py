# SPDX-License-Identifier: Apache-2.0
"""RTM_GETADDR: which interfaces hold an address that somebody may be reached by."""

import socket
import struct

from vfagent.host.netlink import dump

_RTM_GETADDR = 22
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg
_SCOPE_LINK = 253


def addressed() -> frozenset[int]:
    """The ifindex of each netdev that holds an address other than a link-local one."""
    bodies = dump(_RTM_GETADDR, bytes([socket.AF_UNSPEC]))
    found = (_ADDRESS.unpack_from(body) for body in bodies if len(body) >= _ADDRESS.size)
    return frozenset(ifindex for _, _, _, scope, ifindex in found if scope < _SCOPE_LINK)
