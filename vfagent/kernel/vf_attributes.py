# SPDX-License-Identifier: Apache-2.0
"""A VF's settings as rtnetlink's IFLA_VF_* attributes, packed and unpacked (linux/if_link.h)."""

import struct
from collections.abc import Iterator, Mapping
from typing import Any, assert_never

from vfagent.kernel.netlink import attribute, attributes
from vfagent.model.vf_settings import TABLE, Form, LinkState, Rate, Row, VfSettings, Vlan, VlanProtocol

Attributes = Mapping[int, bytes]

IFLA_VF_MAC = TABLE["mac"].number  # struct ifla_vf_mac; each VF has it
_VLAN_LIST = 12
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
    packed = [(row.form, _packed(row, index, value)) for row, value in _values(settings)]
    if together := b"".join(data for form, data in packed if form is not Form.GUID):
        yield together
    yield from (data for form, data in packed if form is Form.GUID)


def _values(settings: VfSettings) -> Iterator[tuple[Row, Any]]:
    values = ((row, getattr(settings, name)) for name, row in TABLE.items())
    return ((row, value) for row, value in values if value is not None)


def _packed(row: Row, index: int, value: Any) -> bytes:
    match row.form:
        case Form.VLAN:
            return _packed_vlan(row.number, index, value)
        case Form.MAC:
            data = _ADDRESS.pack(index, bytes.fromhex(value.replace(":", "")))
        case Form.RATE:
            data = _TWO.pack(index, value.min_mbit, value.max_mbit)
        case Form.SWITCH:
            data = _ONE.pack(index, value)
        case Form.LINK_STATE:
            data = _ONE.pack(index, _STATE[value])
        case Form.GUID:
            data = _GUID.pack(index, int(value.replace(":", ""), 16))
        case _:
            assert_never(row.form)
    return attribute(row.number, data)


def _packed_vlan(number: int, index: int, vlan: Vlan) -> bytes:
    """The old attribute where it is enough: all drivers have it. It has no protocol."""
    plain = _TWO.pack(index, vlan.id, vlan.qos)
    if vlan.id == 0 or vlan.protocol is VlanProtocol.DOT1Q:
        return attribute(number, plain)
    return attribute(_VLAN_LIST, attribute(_VLAN_INFO, plain + _PROTOCOL.pack(_ETHERTYPE[vlan.protocol])))


def unpacked(info: Attributes, *, infiniband: bool = False) -> VfSettings:
    """None for what an older kernel, or the driver, does not report.

    Of an InfiniBand VF ipoib_get_vf_config() reports the PF's own address, and zeros for what Ethernet alone has. Its
    GUIDs are zeros where none was set since the PF's driver was bound.
    """
    there = ((name, row) for name, row in TABLE.items() if (row.infiniband if infiniband else row.ethernet))
    return VfSettings(**{name: _unpacked(row, info) for name, row in there})


def _unpacked(row: Row, info: Attributes) -> Any:
    data = info.get(row.number)
    match row.form:
        case Form.MAC:
            return data[4:10].hex(":") if data else None
        case Form.VLAN:
            return _unpacked_vlan(data, info)
        case Form.RATE:
            return Rate(*rate) if (rate := _fields(_TWO, data)) else None
        case Form.SWITCH:
            switch = _fields(_ONE, data)
            return None if switch is None or switch[0] == _NOT_REPORTED else switch[0] != 0
        case Form.LINK_STATE:
            return _STATE_OF.get(state[0]) if (state := _fields(_ONE, data)) else None
        case Form.GUID:
            return guid[0].to_bytes(8, "big").hex(":") if (guid := _fields(_GUID, data)) else None
        case _:
            assert_never(row.form)


def _fields(form: struct.Struct, data: bytes | None) -> tuple[int, ...] | None:
    """What follows the VF's index."""
    return form.unpack_from(data)[1:] if data and len(data) >= form.size else None


def _unpacked_vlan(data: bytes | None, info: Attributes) -> Vlan | None:
    """The first of the list; the plain attribute of older kernels has no protocol."""
    listed = next((data for kind, data in attributes(info.get(_VLAN_LIST, b"")) if kind == _VLAN_INFO), b"")
    if len(listed) >= _VLAN_TAG.size:
        _, number, priority, protocol = _VLAN_TAG.unpack_from(listed)
        return Vlan(number, priority, _PROTOCOL_OF.get(int.from_bytes(protocol, "big"), VlanProtocol.DOT1Q))
    plain = _fields(_TWO, data)
    return Vlan(plain[0], plain[1]) if plain else None
