# SPDX-License-Identifier: Apache-2.0
"""RTM_NEWLINK for an existing link: its MTU, its state, and the attributes of its VFs (linux/if_link.h)."""

import socket
import struct
from collections.abc import Iterator, Mapping

from vfagent.kernel.getlink import IFLA_MTU, IFLA_VF_INFO, IFLA_VFINFO_LIST, LINK
from vfagent.kernel.link_facts import ETHERTYPE, LINK_STATE
from vfagent.kernel.netlink import NUMBER, attribute, order
from vfagent.model.vf_settings import VfSettings, Vlan, VlanProtocol

_RTM_NEWLINK = 16
_IFF_UP = 0x1
_MAC, _VLAN, _SPOOFCHK, _LINK_STATE, _RATE, _TRUST, _VLAN_LIST = 1, 2, 4, 5, 6, 9, 12  # IFLA_VF_*
_VLAN_INFO = 1
_ADDRESS = struct.Struct("=I32s")  # struct ifla_vf_mac: MAX_ADDR_LEN bytes, whatever the address needs
_ONE, _TWO = struct.Struct("=II"), struct.Struct("=III")
# The end of struct ifla_vf_vlan_info with its padding; without that the kernel answers EINVAL to any protocol.
_PROTOCOL = struct.Struct(">H2x")


def set_mtu(ifindex: int, mtu: int) -> None:
    _set(ifindex, attribute(IFLA_MTU, NUMBER.pack(mtu)))


def set_admin_state(ifindex: int, *, up: bool) -> None:
    _set(ifindex, flags=_IFF_UP if up else 0, change=_IFF_UP)


def set_vfs(ifindex: int, settings: Mapping[int, VfSettings]) -> None:
    infos = (attribute(IFLA_VF_INFO, b"".join(_info(index, wanted))) for index, wanted in settings.items())
    _set(ifindex, attribute(IFLA_VFINFO_LIST, b"".join(infos)))


def _set(ifindex: int, attributes: bytes = b"", *, flags: int = 0, change: int = 0) -> None:
    order(_RTM_NEWLINK, LINK.pack(socket.AF_UNSPEC, 0, ifindex, flags, change) + attributes)


def _info(index: int, wanted: VfSettings) -> Iterator[bytes]:
    """The attributes of the settings that are not None."""
    if wanted.mac is not None:
        yield attribute(_MAC, _ADDRESS.pack(index, bytes.fromhex(wanted.mac.replace(":", ""))))
    if wanted.vlan is not None:
        yield _vlan(index, wanted.vlan)
    if wanted.rate is not None:
        yield attribute(_RATE, _TWO.pack(index, wanted.rate.min_mbit, wanted.rate.max_mbit))
    if wanted.spoof_check is not None:
        yield attribute(_SPOOFCHK, _ONE.pack(index, wanted.spoof_check))
    if wanted.trust is not None:
        yield attribute(_TRUST, _ONE.pack(index, wanted.trust))
    if wanted.link_state is not None:
        yield attribute(_LINK_STATE, _ONE.pack(index, LINK_STATE[wanted.link_state]))


def _vlan(index: int, vlan: Vlan) -> bytes:
    """The old attribute where it is enough: all drivers have it. It has no protocol."""
    plain = _TWO.pack(index, vlan.id, vlan.qos)
    if vlan.id == 0 or vlan.protocol is VlanProtocol.DOT1Q:
        return attribute(_VLAN, plain)
    return attribute(_VLAN_LIST, attribute(_VLAN_INFO, plain + _PROTOCOL.pack(ETHERTYPE[vlan.protocol])))
