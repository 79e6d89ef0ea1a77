# SPDX-License-Identifier: Apache-2.0
"""Values are the same after encode and decode; other data is refused with ValueError."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfagent.model.codec import decode, encode
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Inventory, Netdev, Pf, Vf
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import LinkState, Rate, VfSettings, Vlan, VlanProtocol
from vfagent.store.state import Baseline

ADDRESSES = st.builds("{:04x}:{:02x}:{:02x}.{}".format, *(st.integers(0, top) for top in (0xFFFF, 255, 31, 7)))
PCI = ADDRESSES.map(PciAddress)
TEXTS = st.none() | st.text(max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
SETTINGS = st.builds(
    VfSettings,
    mac=TEXTS,
    vlan=st.none() | st.builds(Vlan, st.integers(0, 4094), st.integers(0, 7), st.sampled_from(VlanProtocol)),
    rate=st.none() | st.builds(Rate, st.integers(0, 9), st.integers(0, 9)),
    link_state=st.none() | st.sampled_from(LinkState),
)
VFS = st.builds(Vf, address=PCI, group_blockers=st.lists(PCI, max_size=2).map(tuple), settings=st.none() | SETTINGS)
PFS = st.builds(Pf, address=PCI, vfs=st.lists(VFS, max_size=3).map(tuple), netdev=st.none() | st.builds(Netdev))
DRIVER_STATES = st.builds(DriverState, applied=st.dictionaries(st.integers(0, 300), SETTINGS, max_size=3))
VALUES = st.lists(PFS, max_size=2).map(tuple).map(Inventory) | DRIVER_STATES | PFS.map(Baseline)


@given(value=VALUES)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_value_is_the_same_after_encode_and_decode(value: Any) -> None:
    assert decode(type(value), json.loads(json.dumps(encode(value)))) == value


@given(kind=st.sampled_from((Inventory, DriverState, Baseline, VfSettings, Netdev)), data=JSON)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_other_data_is_refused_with_value_error(kind: type, data: Any) -> None:
    try:
        value: object = decode(kind, data)
    except ValueError:
        return
    assert isinstance(value, kind)


@given(value=st.lists(PFS, min_size=1, max_size=1).map(tuple).map(Inventory), other=JSON, number=st.integers(0, 99))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_damaged_value_is_refused_or_read_as_its_kind(value: Inventory, other: Any, number: int) -> None:
    data = encode(value)
    (pf,) = data["pfs"]
    pf[sorted(pf)[number % len(pf)]] = other
    try:
        inventory = decode(Inventory, data)
    except ValueError:
        return
    assert encode(inventory) == encode(decode(Inventory, json.loads(json.dumps(encode(inventory)))))


def test_unknown_keys_are_ignored() -> None:
    assert decode(Vlan, {"id": 3, "color": "red"}) == Vlan(3)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ValueError, match=r"not a Vlan: .*'id'"):
        decode(Vlan, {})
