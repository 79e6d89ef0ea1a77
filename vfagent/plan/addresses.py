# SPDX-License-Identifier: Apache-2.0
"""The addresses of VLAN interfaces and their bridges: which to add, move, return and remove. Pure."""

from collections.abc import Iterator

from vfagent.model.desired import DesiredPf, DesiredVlanInterface
from vfagent.model.network import HostNetwork, Link, Move
from vfagent.model.pci import PciAddress
from vfagent.plan.network_steps import AddAddress, MoveAddresses, RemoveAddress, RollBackMove
from vfagent.plan.steps import Step
from vfagent.plan.vf import Deferred, Planned


def plan_leftover_addresses(desired: DesiredPf, network: HostNetwork) -> Iterator[Planned | Deferred]:
    """Interrupted moves that no rule asks for any more, and managed addresses that no rule names."""
    pf, kept = desired.address, set(desired.kept_addresses)
    for move in network.moves:
        if move.back and not any((move.source, address) in kept for address in move.addresses):
            yield Planned(MoveAddresses(pf, move), "interrupted")
        elif (move.source, move.target) not in desired.kept_moves:
            yield Planned(RollBackMove(pf, move), "interrupted, and not in the policy")
    for link in network.links:
        leftovers = [
            address.text
            for address in link.addresses
            if address.managed
            and (link.name, address.text) not in kept
            and not _is_being_moved(network, link, address.text)
            and not _is_wanted_elsewhere(desired, link, address.text)
        ]
        yield from _return_or_remove(desired, link, leftovers, network)


def _return_or_remove(
    desired: DesiredPf, link: Link, addresses: list[str], network: HostNetwork
) -> Iterator[Planned | Deferred]:
    """A borrowed address returns to the interface it came from, where that still exists; others are removed."""
    lenders = {
        borrowed.address: borrowed.source
        for borrowed in network.borrowed
        if borrowed.source != link.name and network.named(borrowed.source)
    }
    for address in addresses:
        if address not in lenders:
            step: RemoveAddress | MoveAddresses = RemoveAddress(desired.address, link.name, address)
            yield unless_management(step, "not in the policy", link, desired)
    for lender in dict.fromkeys(lenders[address] for address in addresses if address in lenders):
        returned = tuple(address for address in addresses if lenders.get(address) == lender)
        step = MoveAddresses(desired.address, Move(link.name, lender, returned, back=True, peers=link.peers))
        yield unless_management(step, f"not in the policy, borrowed from {lender}", link, desired)


def _is_being_moved(network: HostNetwork, link: Link, address: str) -> bool:
    return any(link.name in (move.source, move.target) and address in move.addresses for move in network.moves)


def _is_wanted_elsewhere(desired: DesiredPf, link: Link, address: str) -> bool:
    """A VLAN interface has moved into a bridge, or out of one: its addresses follow it."""
    return any(
        address in vlan_interface.addresses and link.name != vlan_interface.address_owner
        for vlan_interface in desired.vlan_interfaces
    )


def unless_management(step: Step, reason: str, link: Link, desired: DesiredPf) -> Planned | Deferred:
    """A session that a trial cut off is still open on this side: its interface is not kept for it."""
    kept = link.management and not desired.ends_trial
    return Deferred(step, reason, f"{link.name} {link.management}") if kept else Planned(step, reason)


def plan_addresses(
    vlan_interface: DesiredVlanInterface, desired: DesiredPf, pf: PciAddress, network: HostNetwork
) -> Iterator[Planned | Deferred | str]:
    """The VLAN interface, and its bridge where it has one, exist or are created by the same plan."""
    address_owner = network.named(vlan_interface.address_owner)
    interrupted = _interrupted_moves(vlan_interface, network)
    sources = _sources(vlan_interface, desired, network)
    moved = {address for addresses in sources.values() for address in addresses}
    for source, addresses in sources.items():
        step = _move(vlan_interface, pf, source, addresses, network)
        if isinstance(step, Deferred):
            yield from plan_way_back(vlan_interface, pf, network)
        yield step
    for move in interrupted:
        if vlan_interface.source not in sources:
            yield Planned(MoveAddresses(pf, move), "interrupted")
            moved.update(move.addresses)
    for address in vlan_interface.addresses:
        if address in moved or (address_owner is not None and address_owner.holds(address)):
            continue
        elsewhere = next((link for link in network.links if link.holds(address)), None)
        if elsewhere is None:
            yield Planned(AddAddress(pf, vlan_interface.address_owner, address), "found nowhere")
        else:
            hint = f'take_addresses_from = "{elsewhere.name}" moves it'
            yield f"{vlan_interface.name}: {elsewhere.name} has the address {address}; {hint}"


def plan_way_back(vlan_interface: DesiredVlanInterface, pf: PciAddress, network: HostNetwork) -> Iterator[Planned]:
    """Roll back an interrupted move that cannot be completed with this policy."""
    for move in _interrupted_moves(vlan_interface, network):
        yield Planned(RollBackMove(pf, move), "interrupted, and cannot be completed with this policy")


def _interrupted_moves(vlan_interface: DesiredVlanInterface, network: HostNetwork) -> list[Move]:
    ends = (vlan_interface.source, vlan_interface.address_owner)
    return [move for move in network.moves if (move.source, move.target) == ends]


def _sources(
    vlan_interface: DesiredVlanInterface, desired: DesiredPf, network: HostNetwork
) -> dict[str, tuple[str, ...]]:
    """The interfaces from which wanted addresses may be moved, each with the addresses to move."""
    kept, sources = set(desired.kept_addresses), dict[str, tuple[str, ...]]()
    for link in network.links:
        if link.name == vlan_interface.address_owner:
            continue
        named = link.name == vlan_interface.source
        leftovers = {
            address.text for address in link.addresses if address.managed and (link.name, address.text) not in kept
        }
        wanted = (text for text in vlan_interface.addresses if link.holds(text))
        if movable := tuple(text for text in wanted if named or text in leftovers):
            sources[link.name] = movable
    return sources


def _move(
    vlan_interface: DesiredVlanInterface,
    pf: PciAddress,
    source: str,
    addresses: tuple[str, ...],
    network: HostNetwork,
) -> Planned | Deferred:
    link = network.named(source)
    peers = link.peers if link else ()
    move = Move(source, vlan_interface.address_owner, addresses, vlan_interface.probe, peers=peers)
    step, reason = MoveAddresses(pf, move), f"found on {source}"
    if link is not None and link.management and not vlan_interface.allow_management:
        permit = "allow_management = true in [[pf.vlan]] permits it"
        return Deferred(step, reason, f"{source} {link.management} ({permit})")
    return Planned(step, reason)
