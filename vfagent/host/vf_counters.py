# SPDX-License-Identifier: Apache-2.0
"""What a PF counted of each of its VFs' traffic: IFLA_VF_STATS, by struct alone.

The kernel fills in zeros for drivers that count nothing, so all zeros means that nothing is known.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_RTM_GETLINK, _RTM_NEWLINK, _NLMSG_ERROR, _NLM_F_REQUEST = 18, 16, 2, 1
_IFLA_VFINFO_LIST, _IFLA_EXT_MASK, _EXT_VF = 22, 29, 1
_IFLA_VF_INFO, _IFLA_VF_MAC, _IFLA_VF_STATS = 1, 1, 8
_HEADER = struct.Struct("=IHHII")
_ERROR = struct.Struct("=i")
_LINK = struct.Struct("=BxHiII")
_ATTRIBUTE = struct.Struct("=HH")
_NESTED = 0x8000
_READ = 1 << 18
_NAMES = {
    0: "rx_packets",
    1: "tx_packets",
    2: "rx_bytes",
    3: "tx_bytes",
    4: "broadcast",
    5: "multicast",
    7: "rx_dropped",
    8: "tx_dropped",
}


@dataclass(frozen=True, slots=True)
class VfCounters:
    """None where the kernel is too old to tell."""

    rx_packets: int | None = None
    tx_packets: int | None = None
    rx_bytes: int | None = None
    tx_bytes: int | None = None
    broadcast: int | None = None
    multicast: int | None = None
    rx_dropped: int | None = None
    tx_dropped: int | None = None


def read_counters(ifindex: int) -> dict[int, VfCounters]:
    """By VF. Raises OSError; EMSGSIZE where there are too many VFs for one message."""
    mask = _ATTRIBUTE.pack(8, _IFLA_EXT_MASK) + struct.pack("=I", _EXT_VF)
    body = _LINK.pack(socket.AF_UNSPEC, 0, ifindex, 0, 0) + mask
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as kernel:
        kernel.sendto(_HEADER.pack(_HEADER.size + len(body), _RTM_GETLINK, _NLM_F_REQUEST, 1, 0) + body, (0, 0))
        return counters_in(kernel.recv(_READ))


def counters_in(message: bytes) -> dict[int, VfCounters]:
    """Of an answer to RTM_GETLINK. Raises the kernel's OSError; EBADMSG where it is cut short."""
    if len(message) < _HEADER.size + _ERROR.size:
        raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))
    _, kind, *_ = _HEADER.unpack_from(message)
    if kind == _NLMSG_ERROR:
        (number,) = _ERROR.unpack_from(message, _HEADER.size)
        raise OSError(-number, os.strerror(-number))
    listed = _attribute(message[_HEADER.size + _LINK.size :], _IFLA_VFINFO_LIST)
    infos = [dict(_attributes(info)) for kind, info in _attributes(listed) if kind == _IFLA_VF_INFO]
    found = {_index(info[_IFLA_VF_MAC]): _counters(info[_IFLA_VF_STATS]) for info in infos if _complete(info)}
    # Kernels that let the list grow beyond 64 KiB wrap its length: what follows then is not what it seems.
    return found if sorted(found) == list(range(len(infos))) else {}


def _complete(info: dict[int, bytes]) -> bool:
    return len(info.get(_IFLA_VF_MAC, b"")) >= 4 and _IFLA_VF_STATS in info


def _index(mac: bytes) -> int:
    return int.from_bytes(mac[:4], "little" if struct.pack("=H", 1)[0] else "big")


def _counters(stats: bytes) -> VfCounters:
    known = {_NAMES[kind]: value for kind, value in _attributes(stats) if kind in _NAMES and len(value) == 8}
    return VfCounters(**{name: struct.unpack("=Q", value)[0] for name, value in known.items()})


def _attribute(data: bytes, wanted: int) -> bytes:
    return next((value for kind, value in _attributes(data) if kind == wanted), b"")


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size or offset + length > len(data):
            return
        yield kind & ~_NESTED, data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
