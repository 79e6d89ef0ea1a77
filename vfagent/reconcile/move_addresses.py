# SPDX-License-Identifier: Apache-2.0
"""Moves addresses from one interface to another without a moment in which neither holds them.

The target gets them, then the routes that depend on them are moved, then the source loses them, then the peers are
told by ARP. The move is on disk before its first change, so that a kill leaves nothing half done.
"""

import contextlib
import errno
import itertools
import socket
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NoReturn

from vfagent.errors import StepError, errno_text
from vfagent.kernel.protocols import Host
from vfagent.model.network import Address, AddressDetails, Borrowed, Link, Move, Route
from vfagent.plan.network_steps import MoveAddresses, RollBackMove

# A port of a bridge, or a PF that was just brought up, passes frames some time later.
PROBE_S = 10.0
MOST_PEERS = 256  # each is a broadcast
_BY_A_ROUTER = 9  # RTPROT_RA


def move_addresses(step: MoveAddresses, host: Host) -> None:
    """Raises StepError, with everything back where it was."""
    with _alone(step, host):
        if _is_there(step.move, host):
            _refuse_if_down(step, host)
            _move(step, host)


def _refuse_if_down(step: MoveAddresses, host: Host) -> None:
    """The step that sets the target up may have failed, or somebody has set it down since."""
    target = host.network.link(step.move.target)
    if target and not (target.admin_up or step.move.back):
        text = f"{step.pf}: cannot {step.describe()}: {target.name} is down"
        raise StepError(text, errno=errno.ENETDOWN, hint="nothing was changed")


def _move(step: MoveAddresses, host: Host) -> None:
    move = _begin(step, host)
    try:
        _shift(move, move.source, move.target, host)
    except OSError as error:
        _undo(step, move, host, f"{errno_text(error.errno or 0)}", retryable=True)
    if move.probe and not _answers(move, host):
        _undo(step, move, host, f"{move.probe} does not answer by {move.target}", retryable=False)
    host.moves.forget(move)
    if move.back:
        _returned(move.addresses, host)


def roll_back(step: RollBackMove, host: Host) -> None:
    with _alone(step, host):
        if step.move not in host.moves.pending():
            return
        try:
            _shift(step.move, step.move.target, step.move.source, host)
        except OSError as error:
            text = f"{step.pf}: cannot {step.describe()}: {errno_text(error.errno or 0)}"
            raise StepError(text, errno=error.errno or 0) from error
        host.moves.forget(step.move)
        _returned(step.move.foreign, host)


@contextlib.contextmanager
def _alone(step: MoveAddresses | RollBackMove, host: Host) -> Iterator[None]:
    """One move at a time: several PFs may plan the same one, and the second is to find it done."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(host.moves.alone())
        except TimeoutError as error:
            raise StepError(f"{step.pf}: cannot {step.describe()}: another move has not ended") from error
        except OSError as error:
            text = f"{step.pf}: cannot {step.describe()}: its lock cannot be made: {error.strerror}"
            raise StepError(text, errno=error.errno or 0, hint="nothing was changed; see /run/vfagent") from error
        yield


def _is_there(move: Move, host: Host) -> bool:
    """Whether there is something left to do: another PF's worker may have done it meanwhile."""
    source = host.network.link(move.source)
    begun = any((other.source, other.target) == (move.source, move.target) for other in host.moves.pending())
    return begun or (source is not None and len(_missing(move.addresses, source, host)) < len(move.addresses))


def _returned(addresses: Iterable[str], host: Host) -> None:
    for address in addresses:
        host.moves.give_back(address)


def _begin(step: MoveAddresses, host: Host) -> Move:
    """The move as it is on disk, with the routes that are to follow: those of an earlier attempt included."""
    move = step.move
    before = next((other for other in host.moves.pending() if other.target == move.target), move)
    source = host.network.link(move.source)
    routes = dict.fromkeys((*before.routes, *(_followers(move, source, host) if source else ())))
    addresses = tuple(dict.fromkeys((*before.addresses, *move.addresses)))
    borrowed = _foreign(move, source, host)
    foreign = tuple(dict.fromkeys((*before.foreign, *(address.text for address in borrowed))))
    # The kernel takes a route with a gateway only where another route reaches that gateway.
    _refuse_immovable(step, routes)
    in_order = tuple(sorted(routes, key=lambda route: route.gateway is not None))
    move = replace(move, addresses=addresses, routes=in_order, foreign=foreign)
    try:
        for address in borrowed:
            host.moves.borrow(Borrowed(address.text, move.source, address.details))
        host.moves.keep(move)
    except OSError as error:
        text = f"{step.pf}: cannot {step.describe()}: its journal cannot be written: {error.strerror}"
        raise StepError(text, errno=error.errno or 0, hint="nothing was changed; see /var/lib/vfagent") from error
    return move


def _foreign(move: Move, source: Link | None, host: Host) -> tuple[Address, ...]:
    held = _held(source, host).values()
    return tuple(address for address in held if address.text in move.addresses and not address.managed)


def _refuse_immovable(step: MoveAddresses, routes: Iterable[Route]) -> None:
    """The kernel removes a route with the last address of its interface, that by several nexthops too."""
    for route in routes:
        if route.immovable:
            why, instead = route.immovable
            text = f"{step.pf}: cannot {step.describe()}: the route {route.destination or 'default'} {why}"
            raise StepError(text, hint=f"nothing was changed; {instead}")


def _followers(move: Move, source: Link, host: Host) -> Iterator[Route]:
    """The routes that use the addresses, and those that would be left on an interface without any."""
    held = _held(source, host).values()
    staying = {
        _family(address.text) for address in held if address.text not in move.addresses and not address.link_local
    }
    emptied = {_family(address) for address in move.addresses} - staying
    reached = [*move.addresses, *_peer_networks(move, held)]
    for route in host.routes.by(source.ifindex):
        if depends(route, reached) or (route.family in emptied and _is_left(route)):
            yield route


def _peer_networks(move: Move, held: Iterable[Address]) -> Iterator[str]:
    for address in held:
        if address.text in move.addresses and address.details.peer:
            yield f"{address.details.peer}/{address.text.rpartition('/')[2]}"


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _is_left(route: Route) -> bool:
    """Whether a route cannot do without an address on its interface.

    With the last IPv4 address the kernel removes all IPv4 routes (fib_disable_ip()), those by a gateway outside the
    address' network included, as hosts with a /32 have it. It keeps IPv6 routes; their gateway is mostly link-local,
    in no address' network. What a router advertised is its interface's own.
    """
    return route.family == socket.AF_INET or (route.gateway is not None and route.protocol != _BY_A_ROUTER)


def depends(route: Route, addresses: Iterable[str]) -> bool:
    """Whether a route uses one of these addresses: as its source, or its gateway is in the address' network."""
    import ipaddress  # late: a start that moves nothing does without it

    held = [ipaddress.ip_interface(text) for text in addresses]
    if route.source and any(ipaddress.ip_address(route.source) == address.ip for address in held):
        return True
    gateway = ipaddress.ip_address(route.gateway) if route.gateway else None
    return gateway is not None and any(
        gateway.version == address.version and gateway in address.network for address in held
    )


def _shift(move: Move, source: str, target: str, host: Host) -> None:
    """What is done already is skipped. Raises OSError."""
    network, to, away = host.network, host.network.link(target), host.network.link(source)
    if to is None:
        raise OSError(errno.ENODEV, f"there is no {target}")
    peers, details = _peers(move, away, host), _details(target, away, host)
    for address in _missing(move.addresses, to, host):
        managed = move.is_managed(address, target)
        network.add_address(to.ifindex, address, managed=managed, known_unique=True, details=details.get(address))
    for route in move.routes:
        host.routes.put(to.ifindex, route, away.ifindex if away else None)
    if away is not None:
        _remove(move, away, host)
    with contextlib.suppress(OSError):  # the addresses have moved, whether the peers know it or not
        network.ask_for(to.ifindex, peers)


def _held(link: Link | None, host: Host) -> dict[str, Address]:
    addresses = host.network.addresses().get(link.ifindex, ()) if link else ()
    return {address.text: address for address in addresses}


def _details(target: str, away: Link | None, host: Host) -> dict[str, AddressDetails]:
    """A borrowed address returns as it was. Another goes as it is, but for its label, which names its interface."""
    now = {text: replace(address.details, label=None) for text, address in _held(away, host).items()}
    return now | {lent.address: lent.details for lent in host.moves.borrowed() if lent.source == target}


def _peers(move: Move, source: Link | None, host: Host) -> tuple[str, ...]:
    """The hosts that know the addresses by the source's MAC, and would go on sending to it for half a minute.

    An ARP request for a peer carries the sender's address and MAC, and the peer updates its entry (arp_process());
    unlike a gratuitous ARP, it needs no raw socket. For IPv6 the kernel asks from its link-local address, which tells
    the peer nothing.
    """
    import ipaddress

    known = dict.fromkeys((*move.peers, *(host.network.neighbours(source.ifindex) if source else ())))
    networks = [ipaddress.ip_interface(text).network for text in move.addresses]
    hosts = (ipaddress.ip_address(text) for text in known)
    peers = (str(host) for host in hosts if host.version == 4 and any(host in network for network in networks))
    return tuple(itertools.islice(peers, MOST_PEERS))


def _missing(addresses: tuple[str, ...], link: Link, host: Host) -> list[str]:
    held = _held(link, host)
    return [text for text in addresses if text not in held]


def _remove(move: Move, link: Link, host: Host) -> None:
    """Without net.ipv4.conf.*.promote_secondaries the kernel takes an address' secondaries away with it, and with the
    last of them all IPv4 routes: these are put back."""
    held, before = _held(link, host), host.routes.by(link.ifindex)
    for address in move.addresses:
        if address in held:
            host.network.remove_address(link.ifindex, address, peer=held[address].details.peer)
    taken = _missing(tuple(text for text in held if text not in move.addresses), link, host)
    for address in taken:
        managed, details = held[address].managed, held[address].details
        host.network.add_address(link.ifindex, address, managed=managed, known_unique=True, details=details)
    left = host.routes.by(link.ifindex) if taken else before
    for route in sorted(before, key=lambda route: route.gateway is not None):
        if route not in left and route not in move.routes:
            host.routes.put(link.ifindex, route, None)


def _answers(move: Move, host: Host) -> bool:
    to = host.network.link(move.target)
    return to is not None and host.network.answers(to.ifindex, move.probe or "", PROBE_S)


def _undo(step: MoveAddresses, move: Move, host: Host, why: str, *, retryable: bool) -> NoReturn:
    """Undo the move, and report both causes."""
    result = "they are back where they were"
    try:
        _shift(move, move.target, move.source, host)
        host.moves.forget(move)
        _returned(move.foreign, host)
    except OSError as error:
        result = f"and they cannot be moved back: {errno_text(error.errno or 0)}"
    text = f"{step.pf}: cannot {step.describe()}: {why}; {result}"
    raise StepError(text, hint="is the VLAN on the switch's port, and the address right?", retryable=retryable)
