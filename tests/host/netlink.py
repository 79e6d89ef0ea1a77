# SPDX-License-Identifier: Apache-2.0
"""rtnetlink messages by struct alone: the tests do not use the code that they test (linux/if_link.h)."""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

RTM_NEWLINK = 16
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_VFINFO_LIST, IFLA_PERM_ADDRESS = 1, 3, 4, 22, 54
IFLA_VF_INFO = 1
VF_MAC, VF_VLAN, VF_TX_RATE, VF_SPOOFCHK, VF_LINK_STATE, VF_RATE, VF_RSS, VF_TRUST = 1, 2, 3, 4, 5, 6, 7, 9
VF_NODE_GUID, VF_PORT_GUID, VF_VLAN_LIST, VF_BROADCAST = 10, 11, 12, 13
NESTED = 0x8000
NOT_REPORTED = 0xFFFFFFFF
_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")


def attribute(kind: int, payload: bytes) -> bytes:
    length = 4 + len(payload)
    return struct.pack("=HH", length, kind) + payload + bytes(-length % 4)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        yield kind & ~NESTED, data[4:length]
        data = data[(length + 3) & ~3 :]


def link_message(ifindex: int, name: str, *infos: bytes, mac: str = "02:00:00:00:00:01", flags: int = 0) -> bytes:
    """RTM_NEWLINK as the kernel answers a request for VFs."""
    body = _LINK.pack(socket.AF_UNSPEC, 1, ifindex, flags, 0)
    body += attribute(IFLA_IFNAME, name.encode() + b"\0") + attribute(IFLA_MTU, struct.pack("=I", 1500))
    body += attribute(IFLA_ADDRESS, bytes.fromhex(mac.replace(":", "")))
    body += attribute(IFLA_VFINFO_LIST, b"".join(infos)) if infos else b""
    return _HEADER.pack(_HEADER.size + len(body), RTM_NEWLINK, 0, 1, 0) + body


@dataclass(frozen=True)
class VfInfo:
    """One IFLA_VF_INFO, in the order and with the extras of rtnl_fill_vfinfo()."""

    index: int
    mac: str = "02:00:00:00:00:00"
    vlan: int = 0
    qos: int = 0
    ethertype: int = 0x8100
    spoofchk: int = 1
    trust: int = 0
    link_state: int = 0
    min_rate: int = 0
    max_rate: int = 0
    with_vlan_list: bool = True
    rss_query: int = NOT_REPORTED
    guids: tuple[int, int] | None = None  # by ndo_get_vf_guid, of IPoIB alone

    def pack(self) -> bytes:
        padded = bytes.fromhex(self.mac.replace(":", "")) + bytes(26)
        parts = [
            attribute(VF_MAC, struct.pack("=I32s", self.index, padded)),
            attribute(VF_BROADCAST, b"\xff" * 6 + bytes(26)),
            attribute(VF_VLAN, struct.pack("=III", self.index, self.vlan, self.qos)),
            attribute(VF_RATE, struct.pack("=III", self.index, self.min_rate, self.max_rate)),
            *(self._pair(VF_TX_RATE, self.max_rate), self._pair(VF_SPOOFCHK, self.spoofchk)),
            *(self._pair(VF_LINK_STATE, self.link_state), self._pair(VF_RSS, self.rss_query)),
            self._pair(VF_TRUST, self.trust),
        ]
        for kind, guid in zip((VF_NODE_GUID, VF_PORT_GUID), self.guids or (), strict=False):
            parts.append(attribute(kind, struct.pack("=I4xQ", self.index, guid)))
        if self.with_vlan_list:
            info = struct.pack("=III", self.index, self.vlan, self.qos) + struct.pack(">HH", self.ethertype, 0)
            parts.append(attribute(VF_VLAN_LIST, attribute(1, info)))
        return attribute(IFLA_VF_INFO, b"".join(parts))

    def _pair(self, kind: int, value: int) -> bytes:
        return attribute(kind, struct.pack("=II", self.index, value))


def vf_attributes(request: bytes) -> dict[int, bytes]:
    """The payload of each IFLA_VF_* of the only VF in an RTM_SETLINK or RTM_NEWLINK request."""
    (only,) = vfs_attributes(request)
    return only


def vfs_attributes(request: bytes) -> list[dict[int, bytes]]:
    top = dict(attributes(request[_HEADER.size + _LINK.size :]))
    infos = (payload for kind, payload in attributes(top[IFLA_VFINFO_LIST]) if kind == IFLA_VF_INFO)
    return [dict(attributes(info)) for info in infos]
