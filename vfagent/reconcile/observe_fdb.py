# SPDX-License-Identifier: Apache-2.0
"""Reads what the PF's FDB depends on: the bridges above the PF, and what they learned behind their local ports."""

from vfagent.kernel.protocols import Host
from vfagent.model.network import LOCAL_KINDS, Link
from vfagent.reconcile.observe import NETDEVS

# Frames pass from the PF through these to a bridge. A macvlan or an ipvlan has a MAC of its own on the PF.
_KINDS_ABOVE = frozenset({"vlan", "bond", "bridge"})


def uppers(host: Host, netdev: str) -> dict[int, Link]:
    """The VLAN interfaces, bonds and bridges above a netdev, whoever made them, by ifindex."""
    above, todo = dict[int, Link](), [netdev]
    while todo:
        entries = host.sysfs.names(f"{NETDEVS}/{todo.pop()}")
        names = sorted(entry.removeprefix("upper_") for entry in entries if entry.startswith("upper_"))
        links = (link for name in names if (link := host.network.link(name)))
        new = [link for link in links if link.kind in _KINDS_ABOVE and link.ifindex not in above]
        above |= {link.ifindex: link for link in new}
        todo += [link.name for link in new]
    return above


def bond_backup(host: Host, netdev: str) -> bool:
    """Whether a netdev is a bond's port through which the bond receives nothing now: `backup`, or not aggregated."""
    return host.sysfs.read(f"{NETDEVS}/{netdev}/bonding_slave/state") == "backup"


def learnt(host: Host, bridges: list[Link]) -> tuple[tuple[str, str], ...]:
    """The MACs behind the local ports of these bridges: (bridge, MAC)."""
    entries = [(bridge.name, port, mac) for bridge in bridges for port, mac in host.network.learnt(bridge.ifindex)]
    ports = {port: host.network.link(port) for port in {port for _, port, _ in entries}}
    local = {port for port, link in ports.items() if link and link.kind in LOCAL_KINDS}
    return tuple(sorted((bridge, mac) for bridge, port, mac in entries if port in local))
