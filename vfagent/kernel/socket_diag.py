# SPDX-License-Identifier: Apache-2.0
"""sock_diag(7): questions about TCP sockets that the kernel answers itself, whatever the size of its table."""

import errno
import socket
import struct
import time
from collections.abc import Iterator

from vfagent.kernel import netlink

_SOCK_DIAG_BY_FAMILY = 20
_PROTOCOL = 4  # NETLINK_SOCK_DIAG
_ESTABLISHED, _CLOSE_WAIT = 1, 8  # TCP_*
_ALL_STATES = 0xFFFFFFFF
_REQUEST = struct.Struct("=BBBxI")  # inet_diag_req_v2, up to its idiag_states
_SOCKET = struct.Struct("!HH16s16sIII")  # inet_diag_sockid, with its interface and cookie
_NO_COOKIE = 0xFFFFFFFF  # INET_DIAG_NOCOOKIE: any socket with these addresses
_FACTS = struct.Struct("=BBBB48xIIIII")  # inet_diag_msg; the last two are uid and inode
_ADDRESSES = slice(8, 24), slice(24, 40)  # of the socket and of its peer, in inet_diag_msg
_LENGTHS = {socket.AF_INET: 4, socket.AF_INET6: 16}
_READ = 1 << 15

Port = tuple[str, int]


def answers() -> bool:
    """Whether the kernel answers. The first question may wait for modprobe: it loads tcp_diag."""
    try:
        _ask(("127.0.0.1", 1), ("127.0.0.1", 1))
    except OSError as error:
        return error.errno == errno.ENOENT
    return True


def owner(source: Port, destination: Port) -> int | None:
    """The user whose open socket of this host is connected from one address and port to the other; None if none is.

    Of a socket that is closed already, the kernel would say user 0 (inet_twsk_diag_fill).
    """
    try:
        answer = _ask(source, destination)
    except OSError:
        return None
    if len(answer) < _FACTS.size:
        return None
    _, state, *_, uid, _ = _FACTS.unpack_from(answer)
    return uid if state in (_ESTABLISHED, _CLOSE_WAIT) else None


def _ask(source: Port, destination: Port) -> bytes:
    """Raises the kernel's OSError."""
    family = socket.AF_INET6 if ":" in source[0] else socket.AF_INET
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, _ALL_STATES) + _sockid(family, source, destination)
    with netlink.opened(_PROTOCOL) as kernel:
        kernel.settimeout(0)  # the kernel answers within the call that sends the question
        netlink.send(kernel, _SOCK_DIAG_BY_FAMILY, body)
        return next(netlink.messages(kernel.recv(_READ)))[2]


def established(port: int, until: float) -> Iterator[tuple[bytes, bytes]]:
    """The addresses, own and the peer's, of each open connection to a port of this host.

    The kernel compares the port (inet_diag_dump_icsk). Raises its OSError, and TimeoutError at `until` (monotonic).
    """
    for family, length in _LENGTHS.items():
        body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 1 << _ESTABLISHED)
        body += _SOCKET.pack(port, 0, b"", b"", 0, _NO_COOKIE, _NO_COOKIE)
        for message in _dump(body, until):
            own, peer = (message[part][:length] for part in _ADDRESSES)
            if len(peer) == length:
                yield own, peer


def _dump(body: bytes, until: float) -> Iterator[bytes]:
    with netlink.opened(_PROTOCOL) as kernel:
        netlink.send(kernel, _SOCK_DIAG_BY_FAMILY, body, netlink.F_DUMP)
        while (left := until - time.monotonic()) > 0:
            kernel.settimeout(left)
            for kind, _, message in netlink.messages(kernel.recv(_READ)):
                if kind == netlink.DONE:
                    return
                yield message
    raise TimeoutError(errno.ETIMEDOUT, "the kernel lists its connections too slowly")


def _sockid(family: int, source: Port, destination: Port) -> bytes:
    addresses = (socket.inet_pton(family, address.partition("%")[0]) for address, _ in (source, destination))
    return _SOCKET.pack(source[1], destination[1], *addresses, 0, _NO_COOKIE, _NO_COOKIE)
