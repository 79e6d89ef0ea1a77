# SPDX-License-Identifier: Apache-2.0
"""What can be set on a VF at all: Ethernet has no GUIDs, and InfiniBand has little else. Pure."""

from collections.abc import Iterator
from dataclasses import replace

from vfagent.model.inventory import Pf
from vfagent.model.vf_settings import TABLE, Rate, VfSettings, Vlan
from vfagent.plan.steps import describe_settings, names, parts

_NOTHING = (False, Vlan(0), Rate(0, 0))  # so is a VF without the attribute


def settable(settings: VfSettings, pf: Pf) -> VfSettings:
    """Without what this PF's link layer does not have. handle_vf_guid() refuses GUIDs on all links but IPoIB."""
    absent = (name for name, row in TABLE.items() if not (row.infiniband if pf.is_infiniband else row.ethernet))
    return replace(settings, **dict.fromkeys(absent))


def impossible(settings: VfSettings, pf: Pf) -> Iterator[tuple[str, str]]:
    """What is asked for and this PF's link layer does not have: each attribute, and the problem in words."""
    possible = names(settable(settings, pf))
    for name, part in parts(settings):
        if name not in possible and getattr(settings, name) not in _NOTHING:
            yield name, f"{describe_settings(part)} cannot be set: {_why(name)}"


def _why(name: str) -> str:
    if TABLE[name].infiniband:
        return "the PF is no InfiniBand one"
    *most, last = (other for other, row in TABLE.items() if row.infiniband)
    return f"the PF is InfiniBand, where a VF has {', '.join(most)} and {last} alone"
