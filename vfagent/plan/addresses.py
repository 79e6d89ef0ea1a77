# SPDX-License-Identifier: Apache-2.0
"""The addresses of the host's legs: added, moved from where they are, and removed where vfagent put them. Pure."""

from collections.abc import Iterator

from vfagent.model.desired import DesiredPf, DesiredVlanInterface
from vfagent.model.network import HostNetwork, Link, Move
from vfagent.model.pci import PciAddress
from vfagent.plan.steps import AddAddress, MoveAddresses, RemoveAddress, RollBackMove
from vfagent.plan.vf import Deferred, Planned


def plan_leftover_addresses(desired: DesiredPf, network: HostNetwork) -> Iterator[Planned | Deferred]:
    """Moves that were begun and are not wanted any more, and addresses of ours that no rule names."""
    pf, kept = desired.address, set(desired.kept_addresses)
    for move in network.moves:
        if move.back and not any((move.source, address) in kept for address in move.addresses):
            yield Planned(MoveAddresses(pf, move), "it was begun, and not ended")
        elif (move.source, move.target) not in desired.kept_moves:
            yield Planned(RollBackMove(pf, move), "it was begun, and the policy does not ask for it")
    for link in network.links:
        mine = (one.text for one in link.addresses if one.managed and (link.name, one.text) not in kept)
        gone = [one for one in mine if not _begun(network, link, one) and not _moves(desired, link, one)]
        yield from _given_up(pf, link, gone, network)


def _given_up(pf: PciAddress, link: Link, gone: list[str], network: HostNetwork) -> Iterator[Planned | Deferred]:
    """Back to whom they were taken from, where that is still there."""
    there = (one for one in network.borrowed if one.source != link.name and network.named(one.source))
    homes = {one.address: one.source for one in there}
    for address in gone:
        if address not in homes:
            yield _unless_managed(RemoveAddress(pf, link.name, address), "not in the policy", link)
    for home in dict.fromkeys(homes[address] for address in gone if address in homes):
        addresses = tuple(address for address in gone if homes.get(address) == home)
        step = MoveAddresses(pf, Move(link.name, home, addresses, back=True, peers=link.peers))
        yield _unless_managed(step, f"not in the policy, and taken from {home}", link)


def _begun(network: HostNetwork, link: Link, address: str) -> bool:
    return any(link.name in (move.source, move.target) and address in move.addresses for move in network.moves)


def _moves(desired: DesiredPf, link: Link, address: str) -> bool:
    """A leg holds it elsewhere by now: it went into a bridge, or out of one."""
    return any(
        address in vlan_interface.addresses and link.name != vlan_interface.address_owner
        for vlan_interface in desired.vlan_interfaces
    )


def _unless_managed(step: RemoveAddress | MoveAddresses, reason: str, link: Link) -> Planned | Deferred:
    return Deferred(step, reason, f"{link.name} {link.management}") if link.management else Planned(step, reason)


def plan_addresses(
    want: DesiredVlanInterface, desired: DesiredPf, pf: PciAddress, network: HostNetwork
) -> Iterator[Planned | Deferred | str]:
    """Of a leg whose device, and bridge where it has one, are there or are made in the same plan."""
    address_owner = network.named(want.address_owner)
    begun = _begun_by(want, network)
    sources = _sources(want, desired, network)
    moved = {address for addresses in sources.values() for address in addresses}
    for source, addresses in sources.items():
        step = _move(want, pf, source, addresses, network)
        if isinstance(step, Deferred):
            yield from plan_way_back(want, pf, network)
        yield step
    for move in begun:
        if want.source not in sources:
            yield Planned(MoveAddresses(pf, move), "it was begun, and not ended")
            moved.update(move.addresses)
    for address in want.addresses:
        if address in moved or (address_owner is not None and address_owner.holds(address)):
            continue
        elsewhere = next((link for link in network.links if link.holds(address)), None)
        if elsewhere is None:
            yield Planned(AddAddress(pf, want.address_owner, address), "found nowhere")
        else:
            hint = f'take_addresses_from = "{elsewhere.name}" moves it'
            yield f"{want.name}: {address} is held by {elsewhere.name}; {hint}"


def plan_way_back(want: DesiredVlanInterface, pf: PciAddress, network: HostNetwork) -> Iterator[Planned]:
    """Of a move that was begun, and can not be ended as the policy is now."""
    for move in _begun_by(want, network):
        yield Planned(RollBackMove(pf, move), "it was begun, and the policy does not permit its end")


def _begun_by(want: DesiredVlanInterface, network: HostNetwork) -> list[Move]:
    return [move for move in network.moves if (move.source, move.target) == (want.source, want.address_owner)]


def _sources(want: DesiredVlanInterface, desired: DesiredPf, network: HostNetwork) -> dict[str, tuple[str, ...]]:
    """Who holds which of the wanted addresses, of those that they may be taken from."""
    kept, found = set(desired.kept_addresses), dict[str, tuple[str, ...]]()
    for link in network.links:
        if link.name == want.address_owner:
            continue
        mine = {one.text for one in link.addresses if one.managed and (link.name, one.text) not in kept}
        asked = link.name == want.source
        if held := tuple(text for text in want.addresses if link.holds(text) and (asked or text in mine)):
            found[link.name] = held
    return found


def _move(
    want: DesiredVlanInterface, pf: PciAddress, source: str, addresses: tuple[str, ...], network: HostNetwork
) -> Planned | Deferred:
    link = network.named(source)
    peers = link.peers if link else ()
    step = MoveAddresses(pf, Move(source, want.address_owner, addresses, want.probe, peers=peers))
    reason = f"found on {source}"
    if link is not None and link.management and not want.allow_management:
        permit = "allow_management = true in [[pf.vlan]] permits it"
        return Deferred(step, reason, f"{source} {link.management} ({permit})")
    return Planned(step, reason)
