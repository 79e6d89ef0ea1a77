# SPDX-License-Identifier: Apache-2.0
"""A router's advertisement (RFC 4861, 4.2), as an Ethernet frame: `python3 router.py INTERFACE PREFIX` sends it each s.

The standard library alone, so that a VM can run this file.
"""

import socket
import struct
import sys
import time

_SOURCE_MAC, _ALL_NODES_MAC = bytes.fromhex("020000000001"), bytes.fromhex("333300000001")
_SOURCE, _ALL_NODES = socket.inet_pton(socket.AF_INET6, "fe80::1"), socket.inet_pton(socket.AF_INET6, "ff02::1")
_ICMPV6, _ADVERTISEMENT, _SOLICITATION = 58, 134, 133
_LIFETIME_S = 1800
_ON_LINK_AND_AUTONOMOUS = 0xC0


def advertisement(prefix: str) -> bytes:
    """A default route, and a prefix of 64 bits to make addresses of."""
    bits = socket.inet_pton(socket.AF_INET6, prefix)
    option = struct.pack("!BBBBIII", 3, 4, 64, _ON_LINK_AND_AUTONOMOUS, _LIFETIME_S, _LIFETIME_S, 0) + bits
    source_option = struct.pack("!BB", 1, 1) + _SOURCE_MAC
    tail = struct.pack("!BBHII", 64, 0, _LIFETIME_S, 0, 0) + source_option + option
    body = struct.pack("!BBH", _ADVERTISEMENT, 0, 0) + tail
    body = body[:2] + struct.pack("!H", _checksum(body)) + body[4:]
    header = struct.pack("!IHBB", 6 << 28, len(body), _ICMPV6, 255) + _SOURCE + _ALL_NODES
    return _ALL_NODES_MAC + _SOURCE_MAC + struct.pack("!H", 0x86DD) + header + body


def _checksum(body: bytes) -> int:
    data = _SOURCE + _ALL_NODES + struct.pack("!II", len(body), _ICMPV6) + body
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def advertise(interface: str, prefix: str) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((interface, 0))
        wire.send(advertisement(prefix))


def is_solicitation(frame: bytes) -> bool:
    return frame[12:14] == b"\x86\xdd" and frame[20] == _ICMPV6 and frame[54] == _SOLICITATION


if __name__ == "__main__":
    while True:
        advertise(sys.argv[1], sys.argv[2])
        time.sleep(1)
