# SPDX-License-Identifier: Apache-2.0
"""rtnetlink's framing by struct alone, for what each look asks and what each boot sets.

pyroute2 does all else. It takes a fifth of the time that the service needs to load, and 0.2 ms for each VF it reads.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator

HEADER = struct.Struct("=IHHII")
NUMBER = struct.Struct("=I")
F_REQUEST, F_ACK, F_DUMP, F_DUMP_INTR = 0x1, 0x4, 0x300, 0x10
_ERROR, _DONE = 2, 3  # NLMSG_*
_ATTRIBUTE = struct.Struct("=HH")
_CODE = struct.Struct("=i")
_NESTED = 0x8000
_READ = 1 << 18
_TRIES = 8

Message = tuple[int, int, bytes]  # its type, its flags, and what follows the header


def opened() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)


def send(kernel: socket.socket, kind: int, body: bytes, flags: int = 0) -> None:
    kernel.sendto(HEADER.pack(HEADER.size + len(body), kind, F_REQUEST | flags, 1, 0) + body, (0, 0))


def ask(kind: int, body: bytes, flags: int = 0) -> bytes:
    """One question and the datagram that answers it."""
    with opened() as kernel:
        send(kernel, kind, body, flags)
        return kernel.recv(_READ)


def order(kind: int, body: bytes) -> None:
    """Waits for the kernel to have done it. Raises its OSError."""
    for _ in messages(ask(kind, body, F_ACK)):
        pass


def dump(kind: int, body: bytes) -> list[bytes]:
    """All that there are, without their headers. Raises the kernel's OSError; EAGAIN where it changes all the while."""
    for _ in range(_TRIES):
        found = list(_dump(kind, body))
        if not any(flags & F_DUMP_INTR for _, flags, _ in found):
            return [body for kind, _, body in found if kind != _DONE]
    raise error(errno.EAGAIN)


def _dump(kind: int, body: bytes) -> Iterator[Message]:
    with opened() as kernel:
        send(kernel, kind, body, F_DUMP)
        while True:
            for found in messages(kernel.recv(_READ)):
                yield found
                if found[0] == _DONE:
                    return


def messages(data: bytes) -> Iterator[Message]:
    """Of one datagram. Raises the kernel's OSError, or EBADMSG where they are none."""
    offset = 0
    while offset < len(data):
        if offset + HEADER.size + _CODE.size > len(data):
            raise error(errno.EBADMSG)
        length, kind, flags, *_ = HEADER.unpack_from(data, offset)
        if kind in (_ERROR, _DONE) and (code := _CODE.unpack_from(data, offset + HEADER.size)[0]) < 0:
            raise error(-code)
        if length < HEADER.size:
            raise error(errno.EBADMSG)
        yield kind, flags, data[offset + HEADER.size : offset + length]
        offset += (length + 3) & ~3


def error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def attribute(kind: int, payload: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + bytes(-length % 4)


def attributes(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Each one's kind and payload, up to the first that is cut."""
    end = len(data)
    while offset + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size or offset + length > end:
            return
        yield kind & ~_NESTED, data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
