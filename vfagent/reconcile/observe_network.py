# SPDX-License-Identifier: Apache-2.0
"""Reads the host's own network around a PF, as far as its rule, or what vfagent made on it, concerns it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from vfagent.kernel.protocols import Host
from vfagent.model.desired import DesiredPf
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Pf
from vfagent.model.network import (
    MANAGED_ALIAS,
    UNMARKED_GROUP,
    Address,
    Borrowed,
    HostNetwork,
    Link,
    Representor,
)
from vfagent.reconcile.observe import representor_names
from vfagent.reconcile.observe_autoconf import with_autoconf, with_links_autoconf
from vfagent.reconcile.observe_fdb import Uppers, uppers, with_fdb
from vfagent.reconcile.observe_netdevs import NETDEVS, management_of, names_above

Leaving = Callable[[str, str], bool]


def with_network(host: Host, pf: Pf, desired: DesiredPf | None, driver_state: DriverState) -> Pf:
    """The PF with what else its rule needs to know: hwmode, eswitch mode, and the host's own network."""
    netdev = pf.netdev
    if netdev is None:
        return pf
    if desired and desired.hwmode:
        mode = host.rtnl.hwmode(netdev.ifindex) if pf.vfs and pf.hwmode is None else pf.hwmode
        pf = replace(pf, hwmode=mode)
    if desired and desired.eswitch and pf.eswitch is None:
        pf = replace(pf, eswitch=host.devlink.eswitch_mode(pf.address))
    if desired:
        pf = with_autoconf(host, pf, driver_state)
    managed = _managed_on(host, netdev.name)
    switchdev = pf.eswitch == "switchdev"
    moved = host.moves.pending() or host.moves.borrowed()
    kept = driver_state.fdb or driver_state.addressed
    above = uppers(host, netdev.name) if desired and desired.fdb and pf.vfs and not switchdev else {}
    wanted = desired and (desired.vlan_interfaces or netdev.master)
    if not (managed or kept or switchdev or wanted or moved or above):
        return pf
    network = with_links_autoconf(host, driver_state, _network(host, pf, desired, managed, above))
    network = replace(network, joined=driver_state.joined)
    return replace(pf, network=with_fdb(host, netdev, network, above, driver_state))


def with_links_above(host: Host, pf: Pf) -> Pf:
    """The PF with all links above it, whoever made them: for a policy that is to be written from what is there."""
    if pf.netdev is None:
        return pf
    ways, addresses = host.rtnl.management(), host.network.addresses()
    links = dict(uppers(host, pf.netdev.name))
    representors = _representors(host, pf) if pf.eswitch == "switchdev" else ()
    masters = (host.network.link(name) for name in {port.master for port in representors if port.master})
    links |= {link.ifindex: link for link in masters if link}
    complete = (_complete(host, link, addresses, ways, lambda *_: False) for link in links.values())
    return replace(pf, network=HostNetwork(links=tuple(complete), representors=representors))


def _managed_on(host: Host, parent: str) -> list[str]:
    """The interfaces that vfagent made on a netdev."""
    return [name for name in names_above(host, parent) if is_managed(host, name)]


def is_managed(host: Host, name: str) -> bool:
    alias = host.sysfs.read(f"{NETDEVS}/{name}/ifalias")
    return alias == MANAGED_ALIAS or (
        not alias and host.sysfs.read(f"{NETDEVS}/{name}/netdev_group") == str(UNMARKED_GROUP)
    )


def _network(host: Host, pf: Pf, desired: DesiredPf | None, managed: list[str], above: Uppers) -> HostNetwork:
    assert pf.netdev is not None
    moves, borrowed, addresses = host.moves.pending(), host.moves.borrowed(), host.network.addresses()
    moving = (name for move in moves for name in (move.source, move.target))
    names = {*managed, *moving, *(address.source for address in borrowed), *_named(desired)}
    if desired and desired.vlan_interfaces:
        names |= set(names_above(host, pf.netdev.name))  # a macvtap in passthru mode
    if desired and pf.netdev.master:
        names.add(pf.netdev.master)
    representors = _representors(host, pf) if pf.eswitch == "switchdev" else ()
    names |= {representor.master for representor in representors if representor.master}
    links = {link.ifindex: link for name in sorted(names) if (link := host.network.link(name))} | dict(above)
    for ifindex in _address_owners(desired, addresses):
        if ifindex not in links and (link := host.network.link(ifindex)):
            links[ifindex] = link
    for ifindex in {link.master for link in links.values() if link.managed and link.master} - set(links):
        if link := host.network.link(ifindex):
            links[ifindex] = link
    ways = host.rtnl.management()
    leaving = _leaving(desired, borrowed)
    return HostNetwork(
        links=tuple(_complete(host, link, addresses, ways, leaving) for link in links.values()),
        moves=moves,
        borrowed=borrowed,
        representors=representors,
    )


def _named(desired: DesiredPf | None) -> Iterable[str]:
    for vlan_interface in desired.vlan_interfaces if desired else ():
        yield from (
            name for name in (vlan_interface.name, vlan_interface.bridge, vlan_interface.take_addresses_from) if name
        )
    yield from (bridge.name for bridge in (desired.bridges if desired else ()))
    yield from (vf.bridge for vf in (desired.vfs if desired else ()) if vf.bridge)


def _address_owners(desired: DesiredPf | None, addresses: Mapping[int, tuple[Address, ...]]) -> list[int]:
    """The interfaces with an address that the rule wants, or that vfagent added: foreign bridges too."""
    wanted = {
        address
        for vlan_interface in (desired.vlan_interfaces if desired else ())
        for address in vlan_interface.addresses
    }
    return [
        ifindex
        for ifindex, held in addresses.items()
        if any(address.managed or address.text in wanted for address in held)
    ]


def _leaving(desired: DesiredPf | None, borrowed: tuple[Borrowed, ...]) -> Leaving:
    """Whether an address is to move away from an interface."""
    wanted = {
        address
        for vlan_interface in (desired.vlan_interfaces if desired else ())
        for address in vlan_interface.addresses
    }
    wanted |= {address.address for address in borrowed}
    kept = set(desired.kept_addresses) if desired else set[tuple[str, str]]()
    return lambda name, address: address in wanted and (name, address) not in kept


def _complete(
    host: Host, link: Link, addresses: Mapping[int, tuple[Address, ...]], ways: Mapping[int, str], leaving: Leaving
) -> Link:
    held = addresses.get(link.ifindex, ())
    # Read now: a bridge forgets its neighbours when its last port leaves it (neigh_carrier_down()).
    peers = host.network.neighbours(link.ifindex) if any(leaving(link.name, address.text) for address in held) else ()
    return replace(link, addresses=held, management=management_of(host, link.name, ways), peers=peers)


def _representors(host: Host, pf: Pf) -> tuple[Representor, ...]:
    """By the switch that they are ports of, since not every driver puts them below the PF in sysfs."""
    assert pf.netdev is not None
    return tuple(representors(host, pf.netdev.name))


def representors(host: Host, uplink: str) -> Iterable[Representor]:
    """The VFs' representors on the switch of this netdev."""
    for name, number, index in representor_names(host, uplink):
        ifindex = host.sysfs.read(f"{NETDEVS}/{name}/ifindex")
        link = host.network.link(int(ifindex)) if ifindex else None
        if link is not None:
            master = host.sysfs.link(f"{NETDEVS}/{name}/master")
            yield Representor(index, name, link.ifindex, link.admin_up, master, number)
