# SPDX-License-Identifier: Apache-2.0
"""The host's own network as the policy wants it: VLAN interfaces and bridges, as the planner takes them."""

from dataclasses import replace

from vfagent.model.desired import DesiredBridge, DesiredPf, DesiredVf, DesiredVlanInterface
from vfagent.model.network import VlanTag
from vfagent.model.pci import PciAddress
from vfagent.policy.types import BridgeRule, PfRule, Policy, VlanRule


def desired_vlan_interfaces(policy: Policy, rule: PfRule) -> tuple[DesiredVlanInterface, ...]:
    return tuple(_vlan_interface(vlan, permitted=policy.ends_trial) for vlan in rule.vlan)


def every_vlan_interface(policy: Policy) -> tuple[DesiredVlanInterface, ...]:
    return tuple(vlan_interface for rule in policy.pf for vlan_interface in desired_vlan_interfaces(policy, rule))


def nothing_desired(policy: Policy, address: PciAddress) -> DesiredPf:
    """For a PF that no rule matches: vfagent removes the VLAN interfaces and addresses that it manages there."""
    return _with_other_rules(policy, DesiredPf(address, "", None, None, ()))


def with_vlan_interfaces(policy: Policy, rule: PfRule, desired: DesiredPf) -> DesiredPf:
    vlan_interfaces = desired_vlan_interfaces(policy, rule)
    return _with_other_rules(
        policy,
        replace(desired, vlan_interfaces=vlan_interfaces, bridges=bridges_of(policy, vlan_interfaces, desired.vfs)),
    )


def _with_other_rules(policy: Policy, desired: DesiredPf) -> DesiredPf:
    """Adds the addresses and moves of every rule: PFs can share a bridge, which must keep the others' addresses."""
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
    return replace(desired, kept_addresses=addresses, kept_moves=moves, ends_trial=policy.ends_trial)


def _vlan_interface(vlan: VlanRule, *, permitted: bool) -> DesiredVlanInterface:
    return DesiredVlanInterface(
        name=vlan.name,
        tag=VlanTag(vlan.id, vlan.protocol),
        mtu=vlan.mtu,
        bridge=vlan.bridge,
        addresses=vlan.addresses,
        take_addresses_from=vlan.take_addresses_from,
        probe=vlan.probe,
        allow_management=vlan.allow_management or permitted,
    )


def bridges_of(
    policy: Policy, vlan_interfaces: tuple[DesiredVlanInterface, ...], vfs: tuple[DesiredVf, ...]
) -> tuple[DesiredBridge, ...]:
    """The policy's bridges that have these VLAN interfaces or the representors of these VFs as ports."""
    names = {vlan_interface.bridge for vlan_interface in vlan_interfaces} | {vf.bridge for vf in vfs}
    return tuple(desired_bridge(rule) for rule in policy.bridge if rule.name in names)


def desired_bridge(rule: BridgeRule) -> DesiredBridge:
    return DesiredBridge(rule.name, rule.vlan_filtering, rule.mtu)
