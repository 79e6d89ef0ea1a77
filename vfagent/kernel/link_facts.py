# SPDX-License-Identifier: Apache-2.0
"""A link and its VFs as values, decoded from rtnetlink's attributes (linux/if_link.h)."""

import struct

from vfagent.kernel.getlink import IFLA_ADDRESS, IFLA_IFNAME, IFLA_MASTER, IFLA_MTU, IFLA_PERM_ADDRESS, Attributes, Link
from vfagent.kernel.netlink import attributes
from vfagent.kernel.protocols import LinkFacts
from vfagent.model.vf_settings import LinkState, Rate, VfSettings, Vlan, VlanProtocol

ETHERTYPE = {VlanProtocol.DOT1Q: 0x8100, VlanProtocol.DOT1AD: 0x88A8}
LINK_STATE = {LinkState.AUTO: 0, LinkState.ENABLE: 1, LinkState.DISABLE: 2}

_PROTOCOL = {value: key for key, value in ETHERTYPE.items()}
_STATE = {value: key for key, value in LINK_STATE.items()}
_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000
_NOT_REPORTED = 0xFFFFFFFF  # the kernel reports -1 for what a driver leaves out
_MAC, _VLAN, _SPOOFCHK, _LINK_STATE, _RATE, _TRUST, _VLAN_LIST = 1, 2, 4, 5, 6, 9, 12  # IFLA_VF_*
_VLAN_INFO = 1
_NUMBER = struct.Struct("=I")
# Each begins with the VF's number, which is skipped.
_ONE, _TWO = struct.Struct("=4xI"), struct.Struct("=4xII")
_VLAN_TAG = struct.Struct("=4xII2s")


def link_facts(link: Link) -> LinkFacts:
    attribute = link.attributes.get
    return LinkFacts(
        ifindex=link.ifindex,
        name=attribute(IFLA_IFNAME, b"").rstrip(b"\0").decode("utf-8", "surrogateescape"),
        mac=_mac(attribute(IFLA_ADDRESS)) or "",
        permanent_mac=_mac(attribute(IFLA_PERM_ADDRESS)),
        mtu=_number(attribute(IFLA_MTU)) or 0,
        admin_up=bool(link.flags & _IFF_UP),
        carrier=bool(link.flags & _IFF_LOWER_UP),
        master=_number(attribute(IFLA_MASTER)),
        vfs={index: vf_settings(info) for index, info in link.vfs.items()},
    )


def vf_settings(info: Attributes) -> VfSettings:
    """None for what an older kernel, or the driver, does not report."""
    state, rate = _fields(_ONE, info.get(_LINK_STATE)), _fields(_TWO, info.get(_RATE))
    return VfSettings(
        mac=_mac(info[_MAC][4:10]),
        vlan=_vlan(info),
        rate=Rate(*rate) if rate else None,
        spoof_check=_switch(info.get(_SPOOFCHK)),
        trust=_switch(info.get(_TRUST)),
        link_state=_STATE.get(state[0]) if state else None,
    )


def _mac(data: bytes | None) -> str | None:
    return data.hex(":") if data else None


def _number(data: bytes | None) -> int | None:
    return int(_NUMBER.unpack_from(data)[0]) if data and len(data) >= _NUMBER.size else None


def _fields(form: struct.Struct, data: bytes | None) -> tuple[int, ...] | None:
    return form.unpack_from(data) if data and len(data) >= form.size else None


def _switch(data: bytes | None) -> bool | None:
    fields = _fields(_ONE, data)
    return None if fields is None or fields[0] == _NOT_REPORTED else fields[0] != 0


def _vlan(info: Attributes) -> Vlan | None:
    """The first of the list; the plain attribute of older kernels has no protocol."""
    listed = next((data for kind, data in attributes(info.get(_VLAN_LIST, b"")) if kind == _VLAN_INFO), b"")
    if len(listed) >= _VLAN_TAG.size:
        number, priority, protocol = _VLAN_TAG.unpack_from(listed)
        return Vlan(number, priority, _PROTOCOL.get(int.from_bytes(protocol, "big"), VlanProtocol.DOT1Q))
    plain = _fields(_TWO, info.get(_VLAN))
    return Vlan(plain[0], plain[1]) if plain else None
