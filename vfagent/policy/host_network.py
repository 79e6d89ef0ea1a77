# SPDX-License-Identifier: Apache-2.0
"""What the policy says of the host's own network, as values that a plan can be made of."""

from dataclasses import replace

from vfagent.model.desired import DesiredBridge, DesiredLeg, DesiredPf, DesiredVf
from vfagent.model.network import VlanTag
from vfagent.model.pci import PciAddress
from vfagent.policy.types import BridgeRule, PfRule, Policy, VlanRule


def desired_legs(rule: PfRule) -> tuple[DesiredLeg, ...]:
    return tuple(_leg(vlan) for vlan in rule.vlan)


def every_leg(policy: Policy) -> tuple[DesiredLeg, ...]:
    return tuple(leg for rule in policy.pf for leg in desired_legs(rule))


def nothing_wanted(policy: Policy, address: PciAddress) -> DesiredPf:
    """Of a PF that no rule is for: what vfagent made of the host's network on it is to go."""
    return _beside(policy, DesiredPf(address, "", None, None, ()))


def with_legs(policy: Policy, rule: PfRule, desired: DesiredPf) -> DesiredPf:
    legs = desired_legs(rule)
    return _beside(policy, replace(desired, legs=legs, bridges=bridges_of(policy, legs, desired.vfs)))


def _beside(policy: Policy, desired: DesiredPf) -> DesiredPf:
    """With what the rules of other PFs keep on bridges that are shared."""
    legs = every_leg(policy)
    addresses = tuple((leg.holder, address) for leg in legs for address in leg.addresses)
    moves = tuple((leg.source, leg.holder) for leg in legs if leg.source)
    return replace(desired, kept_addresses=addresses, kept_moves=moves)


def _leg(vlan: VlanRule) -> DesiredLeg:
    return DesiredLeg(
        name=vlan.name,
        tag=VlanTag(vlan.id, vlan.protocol),
        mtu=vlan.mtu,
        bridge=vlan.bridge,
        addresses=vlan.addresses,
        take_addresses_from=vlan.take_addresses_from,
        probe=vlan.probe,
        allow_management=vlan.allow_management,
    )


def bridges_of(policy: Policy, legs: tuple[DesiredLeg, ...], vfs: tuple[DesiredVf, ...]) -> tuple[DesiredBridge, ...]:
    """Of the policy's bridges, those that these legs, and the representors of these VFs, are ports of."""
    asked = {leg.bridge for leg in legs} | {vf.bridge for vf in vfs}
    return tuple(desired_bridge(rule) for rule in policy.bridge if rule.name in asked)


def desired_bridge(rule: BridgeRule) -> DesiredBridge:
    return DesiredBridge(rule.name, rule.vlan_filtering, rule.mtu)
