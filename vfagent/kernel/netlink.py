# SPDX-License-Identifier: Apache-2.0
"""rtnetlink messages by struct alone, for what each reconcile reads and each boot sets.

pyroute2 does everything else. It takes a fifth of the service's load time, and 0.2 ms for each VF that it reads.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator

HEADER = struct.Struct("=IHHII")
NUMBER = struct.Struct("=I")
F_REQUEST, F_ACK, F_DUMP, F_DUMP_INTR = 0x1, 0x4, 0x300, 0x10
_F_CAPPED, _F_ACK_TLVS = 0x100, 0x200  # of an NLMSG_ERROR: without the request's payload; with attributes
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_ERROR_WORDS = 1  # NLMSGERR_ATTR_MSG
_ERROR, DONE = 2, 3  # NLMSG_*
_ATTRIBUTE = struct.Struct("=HH")
_MAX_ERRNO = 4095  # linux/err.h
_CODE = struct.Struct("=i")
_NESTED = 0x8000
_READ = 1 << 18
_TRIES = 8

Message = tuple[int, int, bytes]  # type, flags, and what follows the header


def opened(protocol: int = socket.NETLINK_ROUTE) -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)


def send(kernel: socket.socket, kind: int, body: bytes, flags: int = 0) -> None:
    kernel.sendto(HEADER.pack(HEADER.size + len(body), kind, F_REQUEST | flags, 1, 0) + body, (0, 0))


def ask(kind: int, body: bytes, flags: int = 0) -> bytes:
    """Sends one request; returns the datagram that answers it."""
    with opened() as kernel:
        send(kernel, kind, body, flags)
        return kernel.recv(_READ)


def order(kind: int, body: bytes) -> None:
    """Sends one request and waits for the acknowledgement. Raises the kernel's OSError, with its own words."""
    with opened() as kernel:
        for option in (_CAP_ACK, _EXT_ACK):
            kernel.setsockopt(_SOL_NETLINK, option, 1)
        send(kernel, kind, body, F_ACK)
        for _ in messages(kernel.recv(_READ)):
            pass


def dump(
    kind: int, body: bytes, *, protocol: int = socket.NETLINK_ROUTE, timeout_s: float | None = None
) -> list[bytes]:
    """The bodies of all messages of a dump. Raises the kernel's OSError; EAGAIN where each dump was interrupted."""
    for _ in range(_TRIES):
        with opened(protocol) as kernel:
            kernel.settimeout(timeout_s)
            answers = list(_dump(kernel, kind, body))
        if not any(flags & F_DUMP_INTR for _, flags, _ in answers):
            return [body for kind, _, body in answers if kind != DONE]
    raise error(errno.EAGAIN)


def _dump(kernel: socket.socket, kind: int, body: bytes) -> Iterator[Message]:
    send(kernel, kind, body, F_DUMP)
    while True:
        for message in messages(kernel.recv(_READ)):
            yield message
            if message[0] == DONE:
                return


def messages(data: bytes) -> Iterator[Message]:
    """The messages of one datagram. Raises the kernel's OSError; EBADMSG where they are malformed."""
    offset = 0
    while offset < len(data):
        if offset + HEADER.size + _CODE.size > len(data):
            raise error(errno.EBADMSG)
        length, kind, flags, *_ = HEADER.unpack_from(data, offset)
        if kind in (_ERROR, DONE) and (code := _CODE.unpack_from(data, offset + HEADER.size)[0]) < 0:
            if code < -_MAX_ERRNO:
                raise error(errno.EBADMSG)
            raise OSError(-code, _words(data[: offset + length], offset, flags) or os.strerror(-code))
        if length < HEADER.size:
            raise error(errno.EBADMSG)
        yield kind, flags, data[offset + HEADER.size : offset + length]
        offset += (length + 3) & ~3


def _words(data: bytes, offset: int, flags: int) -> str:
    """The text of an extended ACK: after the error's code and the header, or the whole, of the request."""
    request = offset + HEADER.size + _CODE.size
    if not flags & _F_ACK_TLVS or request + HEADER.size > len(data):
        return ""
    length = HEADER.size if flags & _F_CAPPED else HEADER.unpack_from(data, request)[0]
    words = dict(attributes(data, request + ((length + 3) & ~3))).get(_ERROR_WORDS, b"")
    return words.rstrip(b"\0").decode("utf-8", "replace").strip()


def error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def attribute(kind: int, payload: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + bytes(-length % 4)


def attributes(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """The kind and payload of each attribute, up to the first truncated one."""
    end = len(data)
    while offset + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size or offset + length > end:
            return
        yield kind & ~_NESTED, data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
