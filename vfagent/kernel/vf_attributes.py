# SPDX-License-Identifier: Apache-2.0
"""A VF's settings as rtnetlink's IFLA_VF_* attributes, packed and unpacked (linux/if_link.h)."""

import struct
from collections.abc import Iterator, Mapping

from vfagent.kernel.netlink import attribute, attributes
from vfagent.model.vf_settings import LinkState, Rate, VfSettings, Vlan, VlanProtocol

Attributes = Mapping[int, bytes]

IFLA_VF_MAC = 1  # struct ifla_vf_mac; each VF has it
_VLAN, _SPOOFCHK, _LINK_STATE, _RATE, _TRUST, _VLAN_LIST = 2, 4, 5, 6, 9, 12
_NODE_GUID, _PORT_GUID = 10, 11
_VLAN_INFO = 1

# Each begins with the VF's index.
_ADDRESS = struct.Struct("=I32s")  # MAX_ADDR_LEN bytes, whatever the address needs
_ONE, _TWO = struct.Struct("=II"), struct.Struct("=III")
_GUID = struct.Struct("@IQ")  # struct ifla_vf_guid: a number of the processor's order, so its padding, too
_VLAN_TAG = struct.Struct("=III2s")
# The end of struct ifla_vf_vlan_info with its padding; without that the kernel answers EINVAL to any protocol.
_PROTOCOL = struct.Struct(">H2x")

_NOT_REPORTED = 0xFFFFFFFF  # the kernel reports -1 for what a driver leaves out
_ETHERTYPE = {VlanProtocol.DOT1Q: 0x8100, VlanProtocol.DOT1AD: 0x88A8}
_PROTOCOL_OF = {ethertype: protocol for protocol, ethertype in _ETHERTYPE.items()}
_STATE = {LinkState.AUTO: 0, LinkState.ENABLE: 1, LinkState.DISABLE: 2}
_STATE_OF = {number: state for state, number in _STATE.items()}


def vf_infos(index: int, settings: VfSettings) -> Iterator[bytes]:
    """The contents of each IFLA_VF_INFO: do_setvfinfo() returns after a GUID, and ignores what follows it."""
    if attributes_of_one := b"".join(packed(index, settings)):
        yield attributes_of_one
    for number, guid in ((_NODE_GUID, settings.node_guid), (_PORT_GUID, settings.port_guid)):
        if guid is not None:
            yield attribute(number, _GUID.pack(index, int(guid.replace(":", ""), 16)))


def packed(index: int, settings: VfSettings) -> Iterator[bytes]:
    """The attributes of the settings that are not None, less GUIDs."""
    if settings.mac is not None:
        yield attribute(IFLA_VF_MAC, _ADDRESS.pack(index, bytes.fromhex(settings.mac.replace(":", ""))))
    if settings.vlan is not None:
        yield _packed_vlan(index, settings.vlan)
    if settings.rate is not None:
        yield attribute(_RATE, _TWO.pack(index, settings.rate.min_mbit, settings.rate.max_mbit))
    if settings.spoof_check is not None:
        yield attribute(_SPOOFCHK, _ONE.pack(index, settings.spoof_check))
    if settings.trust is not None:
        yield attribute(_TRUST, _ONE.pack(index, settings.trust))
    if settings.link_state is not None:
        yield attribute(_LINK_STATE, _ONE.pack(index, _STATE[settings.link_state]))


def _packed_vlan(index: int, vlan: Vlan) -> bytes:
    """The old attribute where it is enough: all drivers have it. It has no protocol."""
    plain = _TWO.pack(index, vlan.id, vlan.qos)
    if vlan.id == 0 or vlan.protocol is VlanProtocol.DOT1Q:
        return attribute(_VLAN, plain)
    return attribute(_VLAN_LIST, attribute(_VLAN_INFO, plain + _PROTOCOL.pack(_ETHERTYPE[vlan.protocol])))


def unpacked(info: Attributes, *, infiniband: bool = False) -> VfSettings:
    """None for what an older kernel, or the driver, does not report.

    Of an InfiniBand VF ipoib_get_vf_config() reports the PF's own address, and zeros for what Ethernet alone has.
    """
    if infiniband:
        return _unpacked_infiniband(info)
    state, rate = _fields(_ONE, info.get(_LINK_STATE)), _fields(_TWO, info.get(_RATE))
    return VfSettings(
        mac=info[IFLA_VF_MAC][4:10].hex(":"),
        vlan=_unpacked_vlan(info),
        rate=Rate(*rate) if rate else None,
        spoof_check=_switch(info.get(_SPOOFCHK)),
        trust=_switch(info.get(_TRUST)),
        link_state=_STATE_OF.get(state[0]) if state else None,
    )


def _unpacked_infiniband(info: Attributes) -> VfSettings:
    """The kernel reports GUIDs from 5.5 on; zeros where none was set since the PF's driver was bound."""
    state = _fields(_ONE, info.get(_LINK_STATE))
    return VfSettings(
        link_state=_STATE_OF.get(state[0]) if state else None,
        node_guid=_guid(info.get(_NODE_GUID)),
        port_guid=_guid(info.get(_PORT_GUID)),
    )


def _guid(data: bytes | None) -> str | None:
    fields = _fields(_GUID, data)
    return fields[0].to_bytes(8, "big").hex(":") if fields else None


def _fields(form: struct.Struct, data: bytes | None) -> tuple[int, ...] | None:
    """What follows the VF's index."""
    return form.unpack_from(data)[1:] if data and len(data) >= form.size else None


def _switch(data: bytes | None) -> bool | None:
    fields = _fields(_ONE, data)
    return None if fields is None or fields[0] == _NOT_REPORTED else fields[0] != 0


def _unpacked_vlan(info: Attributes) -> Vlan | None:
    """The first of the list; the plain attribute of older kernels has no protocol."""
    listed = next((data for kind, data in attributes(info.get(_VLAN_LIST, b"")) if kind == _VLAN_INFO), b"")
    if len(listed) >= _VLAN_TAG.size:
        _, number, priority, protocol = _VLAN_TAG.unpack_from(listed)
        return Vlan(number, priority, _PROTOCOL_OF.get(int.from_bytes(protocol, "big"), VlanProtocol.DOT1Q))
    plain = _fields(_TWO, info.get(_VLAN))
    return Vlan(plain[0], plain[1]) if plain else None
