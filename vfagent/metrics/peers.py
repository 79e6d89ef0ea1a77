# SPDX-License-Identifier: Apache-2.0
"""Whose a connection is: those of one user of this host, or of one remote address, count together."""

import socket
import struct

from vfagent.kernel import socket_diag

_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid
_SUBNET = 8  # bytes: an IPv6 host can have any address of its /64

Peer = int | bytes


def peer(connection: socket.socket, *, ask: bool) -> Peer:
    """A user's number, or an address; b"" once the connection is gone. `ask`: whether the kernel tells users."""
    try:
        if connection.family == socket.AF_UNIX:
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            return int(_CREDENTIALS.unpack(credentials)[1])
        source, destination = connection.getpeername()[:2], connection.getsockname()[:2]
    except OSError:
        return b""
    # All of 127.0.0.0/8 is at the disposal of every local process: there, only the user tells clients apart.
    user = socket_diag.owner(source, destination) if ask else None
    return _host(source[0]) if user is None else user


def _host(text: str) -> bytes:
    address = text.partition("%")[0]
    if ":" in address:
        return socket.inet_pton(socket.AF_INET6, address)[:_SUBNET]
    return b"\x7f" if address.startswith("127.") else socket.inet_pton(socket.AF_INET, address)
