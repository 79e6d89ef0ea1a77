# SPDX-License-Identifier: Apache-2.0
"""What can be set on a VF at all: Ethernet has no GUIDs, and InfiniBand has little else. Pure."""

from collections.abc import Iterator
from dataclasses import replace

from vfagent.model.inventory import Pf
from vfagent.model.vf_settings import GUIDS, Attribute, Rate, VfSettings, Vlan
from vfagent.plan.steps import describe_settings, names, parts

_ON_INFINIBAND = GUIDS | {Attribute.LINK_STATE}  # ipoib_netdev_ops_pf
_NOTHING = VfSettings(vlan=Vlan(0), rate=Rate(0, 0), spoof_check=False, trust=False)  # so is a VF without them


def settable(settings: VfSettings, pf: Pf) -> VfSettings:
    """Without what this PF's link layer does not have. handle_vf_guid() refuses GUIDs on all links but IPoIB."""
    absent = (name for name in names(settings) if (name not in _ON_INFINIBAND if pf.is_infiniband else name in GUIDS))
    return replace(settings, **dict.fromkeys(absent))


def impossible(settings: VfSettings, pf: Pf) -> Iterator[tuple[str, str]]:
    """What is asked for and this PF's link layer does not have: each attribute, and the problem in words."""
    possible = names(settable(settings, pf))
    for name, part in parts(settings):
        if name not in possible and getattr(settings, name) != getattr(_NOTHING, name):
            yield name, f"{describe_settings(part)} cannot be set: {_why(name)}"


def _why(name: str) -> str:
    if name in GUIDS:
        return "the PF is no InfiniBand one"
    return "the PF is InfiniBand, where a VF has node_guid, port_guid and link_state alone"
