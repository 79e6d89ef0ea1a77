# SPDX-License-Identifier: Apache-2.0
"""What is allowed in a policy, and is rarely meant."""

import re
from collections.abc import Iterator

from vfagent.policy.spelling import nearest
from vfagent.policy.types import PfMatch, PfRule, Policy

_ONE_PORT = ("interface", "mac", "path", "pci")


def warnings(policy: Policy) -> Iterator[str]:
    """A line for each."""
    bridges = [bridge.name for bridge in policy.bridge]
    for rule in policy.pf:
        yield from _vlans_on_several_ports(rule)
        yield from _bridges_of_nobody(rule, bridges)


def _vlans_on_several_ports(rule: PfRule) -> Iterator[str]:
    if rule.vlan and not _matches_one_port(rule.match):
        names = ", ".join(repr(vlan.name) for vlan in rule.vlan)
        yield (
            f"rule {rule.name!r}: may match several ports, and its VLAN interface {names} can be on one only: match by "
            "interface, mac, path or pci without a pattern"
        )


def _matches_one_port(match: PfMatch) -> bool:
    patterns = (getattr(match, key) for key in _ONE_PORT)
    return any(pattern is not None and not re.search(r"[*?\[]", pattern) for pattern in patterns)


def _bridges_of_nobody(rule: PfRule, bridges: list[str]) -> Iterator[str]:
    named = [*(vf.bridge for vf in rule.vf), *(vlan.bridge for vlan in rule.vlan)]
    for name in dict.fromkeys(name for name in named if name and name not in bridges):
        meant = nearest(name, bridges)
        yield (
            f"rule {rule.name!r}: no [[bridge]] makes {name!r}, so the host must have it"
            + (f" (did you mean {meant!r}?)" if meant else "")
        )
