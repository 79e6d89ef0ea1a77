# SPDX-License-Identifier: Apache-2.0
"""udev's events as udevd sends them: libudev and its filters are real, only udevd is not.

The message is that of systemd's src/libsystemd/sd-device/device-monitor.c. Root may send it in its own network.
"""

import socket
import struct
from collections.abc import Iterable
from itertools import count

_NETLINK_KOBJECT_UEVENT, _GROUP_UDEV = 15, 2
_HEADER = struct.Struct("=8s4s3I4s4s4s4s")
_MAGIC = 0xFEEDCAFE
_numbers = count(1)


def _murmur2(data: bytes) -> int:
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    result = len(data)
    while len(data) >= 4:
        k = int.from_bytes(data[:4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        result = (result * m & mask) ^ k
        data = data[4:]
    if data:
        result = (result ^ int.from_bytes(data, "little")) * m & mask
    result = (result ^ result >> 13) * m & mask
    return result ^ result >> 15


def _bloom(tags: Iterable[str]) -> int:
    bits = 0
    for tag in tags:
        value = _murmur2(tag.encode())
        for shift in (0, 6, 12, 18):
            bits |= 1 << (value >> shift & 63)
    return bits


def message(
    devpath: str, *, action: str = "change", subsystem: str = "pci", tags: Iterable[str] = ("vfagent",)
) -> bytes:
    tags = tuple(tags)
    listed = f":{':'.join(tags)}:" if tags else ""
    properties = {
        "ACTION": action,
        "DEVPATH": devpath,
        "SUBSYSTEM": subsystem,
        "SEQNUM": str(next(_numbers)),
        "USEC_INITIALIZED": "1",
        **({"TAGS": listed, "CURRENT_TAGS": listed} if tags else {}),
    }
    body = b"".join(f"{key}={value}\0".encode("utf-8", "surrogateescape") for key, value in properties.items())
    bloom = _bloom(tags)
    numbers = (_MAGIC, _murmur2(subsystem.encode()), 0, bloom >> 32, bloom & 0xFFFFFFFF)
    magic, *hashes = (struct.pack(">I", number) for number in numbers)
    return _HEADER.pack(b"libudev", magic, _HEADER.size, _HEADER.size, len(body), *hashes) + body


def send(*messages: bytes) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_KOBJECT_UEVENT) as daemon:
        for datagram in messages:
            daemon.sendto(datagram, (0, 1 << (_GROUP_UDEV - 1)))
