# SPDX-License-Identifier: Apache-2.0
"""The host's own network on one PF: VLAN interfaces and their bridges. Pure.

A foreign interface is used where it fits, and never changed: what it lacks is a problem.
"""

from collections.abc import Iterator

from vfagent.frozen import frozen
from vfagent.model.desired import DesiredBridge, DesiredPf, DesiredVlanInterface
from vfagent.model.inventory import Netdev, Pf
from vfagent.model.network import HostNetwork, Link
from vfagent.model.pci import PciAddress
from vfagent.plan.addresses import plan_addresses, plan_leftover_addresses, plan_way_back, unless_management
from vfagent.plan.autoconf import plan_autoconf
from vfagent.plan.network_steps import (
    CreateBridge,
    CreateVlan,
    DeleteLink,
    LinkChange,
    MarkLink,
    SetLink,
)
from vfagent.plan.no_netdev import netdev_comes_with_vfs
from vfagent.plan.ports import foreign_owner, no_bridge, receiver_of, stays, takes, would_take
from vfagent.plan.vf import Deferred, ParallelGroup, Planned, Problem


@frozen(slots=True)
class NetworkPlan:
    """`groups` are done one after the other; if one fails, the next is done all the same."""

    groups: tuple[ParallelGroup, ...] = ()
    deferred: tuple[Deferred, ...] = ()
    waiting: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


Item = Planned | Deferred | str
"""A step, a deferred step, or a problem."""


@frozen(slots=True)
class _Waits:
    """What must come first. An event tells when it does."""

    text: str


def plan_network(desired: DesiredPf, pf: Pf) -> NetworkPlan:
    """Empty where the host's network was not observed: then no rule and no leftover asks for anything."""
    network, netdev = pf.network, pf.netdev
    if netdev is None and not netdev_comes_with_vfs(pf):
        names = (vlan_interface.name for vlan_interface in desired.vlan_interfaces)
        return NetworkPlan(problems=tuple(Problem(f"{name} cannot be made: the PF has no netdev") for name in names))
    if network is None or netdev is None:
        return NetworkPlan()
    parts: list[list[Item | _Waits]] = [[*plan_leftover_addresses(desired, network), *_stale(desired, pf, network)]]
    ipv6 = {name for name, address in desired.kept_addresses if ":" in address}
    bridges = (plan_bridge(rule, pf.address, network, ipv6=rule.name in ipv6) for rule in desired.bridges)
    parts.append([item for bridge in bridges for item in bridge])
    parts += [
        list(_vlan_interface(vlan_interface, desired, pf, netdev, network))
        for vlan_interface in desired.vlan_interfaces
    ]
    items = [item for part in parts for item in part]
    return NetworkPlan(
        groups=tuple(group for part in parts if (group := tuple(item for item in part if isinstance(item, Planned)))),
        deferred=tuple(item for item in items if isinstance(item, Deferred)),
        waiting=tuple(item.text for item in items if isinstance(item, _Waits)),
        problems=tuple(Problem(item) for item in items if isinstance(item, str)),
    )


def _stale(desired: DesiredPf, pf: Pf, network: HostNetwork) -> Iterator[Item]:
    """Managed VLAN interfaces on this PF that no rule wants any more."""
    wanted = {vlan_interface.name for vlan_interface in desired.vlan_interfaces}
    for link in network.links:
        on_this_pf = pf.netdev is not None and link.lower == pf.netdev.ifindex and link.kind == "vlan"
        if on_this_pf and link.managed and link.name not in wanted:
            yield _removal(link, desired, "not in the policy", network)


def _removal(link: Link, desired: DesiredPf, reason: str, network: HostNetwork, bridge: str | None = None) -> Item:
    """`bridge`: the one that its rule names, into which it comes again."""
    master = network.at(link.master)
    step = DeleteLink(desired.address, link.name, link.ifindex, master.name if master else None)
    joined = network.joined | ({(link.name, bridge)} if bridge else set())
    if owner := foreign_owner(link.name, master, joined):
        return Deferred(step, reason, stays(link.name, owner))
    return unless_management(step, reason, link, desired)


def plan_bridge(desired: DesiredBridge, pf: PciAddress, network: HostNetwork, *, ipv6: bool = False) -> Iterator[Item]:
    """`ipv6`: the policy has IPv6 addresses for it."""
    bridge = network.named(desired.name)
    if bridge is None:
        yield Planned(CreateBridge(pf, desired.name), "found none")
        change = LinkChange(vlan_filtering=desired.vlan_filtering or None)
        yield from plan_autoconf(pf, desired.name, None, network.new_link_ipv6, link_local=ipv6)
        yield from _set(desired.name, None, change, pf, "a new bridge")
        yield from _set(desired.name, None, LinkChange(mtu=desired.mtu, up=True), pf, "a new bridge")
    elif bridge.kind != "bridge":
        yield no_bridge(bridge)
    elif bridge.managed:
        yield from _marked(bridge, pf)
        yield from _closed(bridge, pf, ipv6=ipv6)
        yield from _bridge_changes(desired, bridge, pf)


def _bridge_changes(desired: DesiredBridge, bridge: Link, pf: PciAddress) -> Iterator[Item]:
    if bridge.vlan_filtering is not None and bridge.vlan_filtering != desired.vlan_filtering:
        change = LinkChange(vlan_filtering=desired.vlan_filtering)
        yield from _set(bridge.name, bridge.ifindex, change, pf, f"found {'on' if bridge.vlan_filtering else 'off'}")
    if desired.mtu is not None and bridge.mtu != desired.mtu:
        yield from _set(bridge.name, bridge.ifindex, LinkChange(mtu=desired.mtu), pf, f"found {bridge.mtu}")
    if not bridge.admin_up:
        yield from _set(bridge.name, bridge.ifindex, LinkChange(up=True), pf, "found down")


def _vlan_interface(
    wanted: DesiredVlanInterface, desired: DesiredPf, pf: Pf, netdev: Netdev, network: HostNetwork
) -> Iterator[Item | _Waits]:
    bridge = network.named(wanted.bridge)
    if wanted.bridge and bridge is None and wanted.bridge not in {planned.name for planned in desired.bridges}:
        yield _Waits(f"{wanted.name}: bridge {wanted.bridge} does not exist, and no [[bridge]] rule creates it")
        return
    if bridge and bridge.kind != "bridge":
        yield f"{wanted.name}: {no_bridge(bridge)}"
        return
    down = bridge is not None and not (bridge.managed or bridge.admin_up)
    if bridge and down:
        yield _Waits(f"{wanted.name}: bridge {bridge.name} is down and foreign; its owner must bring it up")
    items = list(_interface_items(wanted, desired, pf, netdev, network))
    yield from items
    if not down and all(isinstance(item, Planned) for item in items):
        yield from plan_addresses(wanted, desired, pf.address, network)
    else:
        yield from plan_way_back(wanted, pf.address, network)


def _interface_items(
    wanted: DesiredVlanInterface, desired: DesiredPf, pf: Pf, netdev: Netdev, network: HostNetwork
) -> Iterator[Item]:
    """The VLAN interface itself, without its addresses."""
    if netdev.is_ipoib:  # NETIF_F_VLAN_CHALLENGED, ipoib_setup_common()
        yield f"{wanted.name}: {netdev.name} is an InfiniBand port: it has partitions (ip link … type ipoib), no VLANs"
        return
    if wanted.mtu is not None and wanted.mtu > max(netdev.mtu, desired.mtu or 0):
        yield f"{wanted.name}: mtu {wanted.mtu} is more than the PF's {netdev.mtu}; mtu in the [[pf]] rule raises that"
        return
    link = network.named(wanted.name)
    receiver = receiver_of(netdev.ifindex, netdev.master, network)
    if receiver and (link is None or link.managed):
        yield _on_a_port(wanted, link, receiver, pf, netdev, network)
        return
    fits = link is not None and link.kind == "vlan" and (link.lower, link.vlan) == (netdev.ifindex, wanted.tag)
    if link is None:
        yield from _new_interface(wanted, pf, netdev, network, "found none")
    elif fits and link.managed:
        yield from _marked(link, pf.address)
        yield from _closed(link, pf.address, ipv6=_has_ipv6(wanted))
        yield from _interface_changes(wanted, link, pf, netdev, network)
    elif fits:
        yield from _foreign(wanted, link, network)
    elif link.managed and link.kind == "vlan" and link.lower != netdev.ifindex:
        # The reconcile of that PF removes it, where no rule wants it there any more.
        yield on_another_pf(wanted.name)
    elif link.managed:
        removal = _removal(link, desired, f"found {link.vlan or _kind(link)}", network, wanted.bridge)
        yield removal
        if isinstance(removal, Planned):
            yield from _new_interface(wanted, pf, netdev, network, "recreated")
    else:
        yield f"{wanted.name}: exists already as {_kind(link)} and is foreign; remove it, or choose another name"


def _on_a_port(
    wanted: DesiredVlanInterface, link: Link | None, receiver: Link, pf: Pf, netdev: Netdev, network: HostNetwork
) -> Item:
    if link is not None:
        return f"{wanted.name}: {takes(wanted.name, netdev.name, link.vlan or wanted.tag, receiver)}"
    above = (other.name for other in network.links if (other.lower, other.vlan) == (receiver.ifindex, wanted.tag))
    text = would_take(netdev.name, wanted.tag, receiver, next(above, None))
    if netdev.management:
        step = CreateVlan(pf.address, netdev.name, netdev.ifindex, wanted.name, wanted.tag)
        return Deferred(step, "found none", f"{netdev.name} {netdev.management}; {text}")
    return f"{wanted.name}: {text}"


def on_another_pf(name: str) -> str:
    return f"{name}: belongs to another PF; a rule with [[pf.vlan]] must match only one PF"


def _new_interface(
    wanted: DesiredVlanInterface, pf: Pf, netdev: Netdev, network: HostNetwork, reason: str
) -> Iterator[Item]:
    yield Planned(CreateVlan(pf.address, netdev.name, netdev.ifindex, wanted.name, wanted.tag), reason)
    conf = network.new_link_ipv6
    yield from plan_autoconf(pf.address, wanted.name, None, conf, link_local=_has_ipv6(wanted))
    mtu = wanted.mtu if wanted.mtu is not None and wanted.mtu < netdev.mtu else None
    change = LinkChange(mtu=mtu, up=True, bridge=wanted.bridge)
    yield from _set(wanted.name, None, change, pf.address, "a new VLAN interface")


def _interface_changes(
    wanted: DesiredVlanInterface, link: Link, pf: Pf, netdev: Netdev, network: HostNetwork
) -> Iterator[Item]:
    mtu = min(wanted.mtu or netdev.mtu, netdev.mtu)  # the next round raises it further, once the PF's MTU is raised
    if link.mtu != mtu:
        yield from _set(link.name, link.ifindex, LinkChange(mtu=mtu), pf.address, f"found {link.mtu}")
    yield from _membership(wanted.bridge, link, pf.address, network)
    if not link.admin_up:
        yield from _set(link.name, link.ifindex, LinkChange(up=True), pf.address, "found down")


def _membership(wanted: str | None, link: Link, pf: PciAddress, network: HostNetwork) -> Iterator[Item]:
    bridge, master = network.named(wanted), network.at(link.master)
    if (wanted is None and link.master is None) or (bridge is not None and link.master == bridge.ifindex):
        return
    if wanted is None and master is not None and master.kind == "vrf":
        return  # addresses work there
    reason = "found a master" if wanted is None else "found another master" if link.master else "found no master"
    step = SetLink(pf, link.name, link.ifindex, LinkChange(bridge=wanted or ""), master.name if master else None)
    if owner := foreign_owner(link.name, master, network.joined):
        yield Deferred(step, reason, stays(link.name, owner))
    else:
        yield Planned(step, reason)


def _foreign(wanted: DesiredVlanInterface, link: Link, network: HostNetwork) -> Iterator[Item]:
    bridge = network.named(wanted.bridge)
    if wanted.bridge and (bridge is None or link.master != bridge.ifindex):
        yield f"{wanted.name}: is foreign and not a port of {wanted.bridge}; its owner must add it"
    elif not link.admin_up:
        yield f"{wanted.name}: is foreign and down; its owner must bring it up"


def _marked(link: Link, pf: PciAddress) -> Iterator[Item]:
    if link.unmarked:
        yield Planned(MarkLink(pf, link.name, link.ifindex), "found unmarked")


def _closed(link: Link, pf: PciAddress, *, ipv6: bool) -> Iterator[Item]:
    """Not where somebody gave it an address, or reaches the host through it."""
    foreign = any(not (address.managed or address.link_local) for address in link.addresses)
    if not (foreign or link.management):
        yield from plan_autoconf(pf, link.name, link.ifindex, link.ipv6, link_local=ipv6)


def _has_ipv6(wanted: DesiredVlanInterface) -> bool:
    """Whether it holds IPv6 addresses itself; otherwise its bridge does."""
    return not wanted.bridge and any(":" in address for address in wanted.addresses)


def _set(name: str, ifindex: int | None, change: LinkChange, pf: PciAddress, reason: str) -> Iterator[Item]:
    if change != LinkChange():
        yield Planned(SetLink(pf, name, ifindex, change), reason)


def _kind(link: Link) -> str:
    return f"{link.vlan} on ifindex {link.lower}" if link.vlan else f"a {link.kind or 'plain interface'}"
