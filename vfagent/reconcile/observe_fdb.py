# SPDX-License-Identifier: Apache-2.0
"""Reads what the PF's FDB depends on: the bridges above the PF, and what they learned behind their local ports."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from vfagent.kernel.protocols import Host
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Netdev
from vfagent.model.network import LOCAL_KINDS, HostNetwork, Link
from vfagent.plan.local_macs import BridgeEntry, choose
from vfagent.reconcile.observe_netdevs import NETDEVS, names_above

# Frames pass from the PF through these to a bridge. A macvlan or an ipvlan has a MAC of its own on the PF.
_KINDS_ABOVE = frozenset({"vlan", "bond", "bridge"})

Uppers = Mapping[int, Link]
"""By ifindex."""


def uppers(host: Host, netdev: str) -> Uppers:
    """The VLAN interfaces, bonds and bridges above a netdev, whoever made them."""
    above, todo = dict[int, Link](), [netdev]
    while todo:
        links = (link for name in sorted(names_above(host, todo.pop())) if (link := host.network.link(name)))
        new = [link for link in links if link.kind in _KINDS_ABOVE and link.ifindex not in above]
        above |= {link.ifindex: link for link in new}
        todo += [link.name for link in new]
    return above


def with_fdb(host: Host, netdev: Netdev, network: HostNetwork, above: Uppers, driver_state: DriverState) -> HostNetwork:
    """The network with the FDB of the PF, and with what bridges above the PF want in it."""
    bridges = {ifindex: link for ifindex, link in above.items() if link.kind == "bridge"}
    if not bridges:
        return replace(network, fdb=host.network.fdb(netdev.ifindex)) if driver_state.fdb else network
    fdb, entries = host.network.fdb(netdev.ifindex), list(_bridge_entries(host, netdev, bridges, above))
    by_bridge, direct = _neighbours(host, netdev, above)
    away = {entry.mac for entry in entries if not entry.local}
    remembered = frozenset(mac for mac in by_bridge if mac in away or mac in driver_state.wire)
    local = choose(entries, remembered | direct, present=fdb)
    return replace(
        network,
        fdb=fdb,
        learnt=local.chosen,
        crowded=local.crowded,
        on_the_wire=local.on_the_wire,
        wire=remembered,
        uplinks=frozenset({entry.ifindex for entry in entries if not entry.local} | {netdev.ifindex, *above}),
        bond_backup=bond_backup(host, netdev.name),
    )


def bond_backup(host: Host, netdev: str) -> bool:
    """Whether a netdev is a bond's port through which the bond receives nothing now: `backup`, or not aggregated."""
    return host.sysfs.read(f"{NETDEVS}/{netdev}/bonding_slave/state") == "backup"


def _bridge_entries(host: Host, netdev: Netdev, bridges: Uppers, above: Uppers) -> Iterator[BridgeEntry]:
    by_bridge = [(bridge.name, entry) for bridge in bridges.values() for entry in host.network.learnt(bridge.ifindex)]
    ports = {ifindex: host.network.link(ifindex) for ifindex in {entry.ifindex for _, entry in by_bridge}}
    for bridge, entry in by_bridge:
        port = ports[entry.ifindex]
        if port is not None:
            uplink = port.ifindex == netdev.ifindex or port.ifindex in above
            local = port.kind in LOCAL_KINDS and not uplink
            yield BridgeEntry(bridge, port.name, entry.mac, local, entry.static, port.ifindex)


def _neighbours(host: Host, netdev: Netdev, above: Uppers) -> tuple[frozenset[str], frozenset[str]]:
    """The MACs of the host's neighbours on the PF's networks: through a bridge, where they may be guests; and else."""
    macs = host.network.neighbour_macs()
    bridges = {ifindex for ifindex, link in above.items() if link.kind == "bridge"}
    bridged = {ifindex for ifindex, link in above.items() if ifindex in bridges or link.lower in bridges}
    direct = {netdev.ifindex, *above} - bridged
    return (
        frozenset(mac for ifindex in bridged for mac in macs.get(ifindex, ())),
        frozenset(mac for ifindex in direct for mac in macs.get(ifindex, ())),
    )
