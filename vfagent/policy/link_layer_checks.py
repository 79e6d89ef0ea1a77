# SPDX-License-Identifier: Apache-2.0
"""Settings that the PFs of a rule cannot have, where its match says that they are InfiniBand, or that they are not."""

import re
from collections.abc import Iterator

from vfagent.policy.problems import Problem, described
from vfagent.policy.source_locations import Location
from vfagent.policy.types import PfMatch, PfRule, VfRule

_MAC, _GUID = "[0-9a-f]{2}(?::[0-9a-f]{2}){5}", "[0-9a-f]{2}(?::[0-9a-f]{2}){7}"
# systemd.net-naming-scheme(7): ibp65s0, ibs2, ibo1, ibx and a MAC; the kernel's own are ib0, ib1.
_IB_NAME = r"ib(?:[opsP]?[0-9*?\[]|x[0-9a-f*?\[]).*"
_ALLOWED = "allowed are node_guid, port_guid and link_state"
_GUIDS = ("node_guid", "port_guid")


def check_link_layer(rule: PfRule, at: Location) -> Iterator[Problem]:
    if why := _infiniband(rule.match):
        for number, vf in enumerate(rule.vf):
            for name, value in _of_ethernet(vf):
                text = f"found {name} = {described(value)} where {why}, {_ALLOWED}: InfiniBand has no {name} of a VF"
                yield (at / "vf" / number / name).problem(text)
        for number, _ in enumerate(rule.vlan):
            text = f"found a VLAN interface where {why}, allowed is none: IPoIB has partitions instead"
            yield (at / "vlan" / number).problem(text)
    elif re.fullmatch(_MAC, rule.match.mac or ""):
        for number, vf in enumerate(rule.vf):
            for name in _GUIDS:
                if getattr(vf, name) is not None:
                    text = f"found {name} where match.mac has 6 bytes, allowed is mac: an Ethernet VF has no GUID"
                    yield (at / "vf" / number / name).problem(text)


def _infiniband(match: PfMatch) -> str | None:
    """What says that the rule is for InfiniBand PFs alone."""
    if re.fullmatch(_GUID, match.mac or ""):
        return "match.mac is an InfiniBand port's"
    return "match.interface is an InfiniBand name" if re.fullmatch(_IB_NAME, match.interface or "") else None


def _of_ethernet(vf: VfRule) -> Iterator[tuple[str, object]]:
    """What a VF has on Ethernet alone; "keep", none and off are what it is on InfiniBand."""
    for name in ("mac", "vlan", "spoof_check", "trust", "min_tx_rate", "max_tx_rate"):
        if value := getattr(vf, name):
            yield name, value
