# SPDX-License-Identifier: Apache-2.0
"""What the policy says of the host's own network, as values that a plan can be made of."""

from dataclasses import replace

from vfagent.model.desired import DesiredBridge, DesiredPf, DesiredVf, DesiredVlanInterface
from vfagent.model.network import VlanTag
from vfagent.model.pci import PciAddress
from vfagent.policy.types import BridgeRule, PfRule, Policy, VlanRule


def desired_vlan_interfaces(rule: PfRule) -> tuple[DesiredVlanInterface, ...]:
    return tuple(_vlan_interface(vlan) for vlan in rule.vlan)


def every_vlan_interface(policy: Policy) -> tuple[DesiredVlanInterface, ...]:
    return tuple(vlan_interface for rule in policy.pf for vlan_interface in desired_vlan_interfaces(rule))


def nothing_desired(policy: Policy, address: PciAddress) -> DesiredPf:
    """Of a PF that no rule is for: what vfagent made of the host's network on it is to go."""
    return _beside(policy, DesiredPf(address, "", None, None, ()))


def with_vlan_interfaces(policy: Policy, rule: PfRule, desired: DesiredPf) -> DesiredPf:
    vlan_interfaces = desired_vlan_interfaces(rule)
    return _beside(
        policy,
        replace(desired, vlan_interfaces=vlan_interfaces, bridges=bridges_of(policy, vlan_interfaces, desired.vfs)),
    )


def _beside(policy: Policy, desired: DesiredPf) -> DesiredPf:
    """With what the rules of other PFs keep on bridges that are shared."""
    vlan_interfaces = every_vlan_interface(policy)
    addresses = tuple(
        (vlan_interface.address_owner, address)
        for vlan_interface in vlan_interfaces
        for address in vlan_interface.addresses
    )
    moves = tuple(
        (vlan_interface.source, vlan_interface.address_owner)
        for vlan_interface in vlan_interfaces
        if vlan_interface.source
    )
    return replace(desired, kept_addresses=addresses, kept_moves=moves)


def _vlan_interface(vlan: VlanRule) -> DesiredVlanInterface:
    return DesiredVlanInterface(
        name=vlan.name,
        tag=VlanTag(vlan.id, vlan.protocol),
        mtu=vlan.mtu,
        bridge=vlan.bridge,
        addresses=vlan.addresses,
        take_addresses_from=vlan.take_addresses_from,
        probe=vlan.probe,
        allow_management=vlan.allow_management,
    )


def bridges_of(
    policy: Policy, vlan_interfaces: tuple[DesiredVlanInterface, ...], vfs: tuple[DesiredVf, ...]
) -> tuple[DesiredBridge, ...]:
    """Of the policy's bridges, those that these legs, and the representors of these VFs, are ports of."""
    asked = {vlan_interface.bridge for vlan_interface in vlan_interfaces} | {vf.bridge for vf in vfs}
    return tuple(desired_bridge(rule) for rule in policy.bridge if rule.name in asked)


def desired_bridge(rule: BridgeRule) -> DesiredBridge:
    return DesiredBridge(rule.name, rule.vlan_filtering, rule.mtu)
