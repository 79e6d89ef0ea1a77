# SPDX-License-Identifier: Apache-2.0
"""The host's own network of one PF: what its VLAN devices and their bridges lack. Pure.

Somebody else's device is used where it serves, and never altered: what it lacks is told instead.
"""

from collections.abc import Iterator

from vfagent.frozen import frozen
from vfagent.model.desired import DesiredBridge, DesiredPf, DesiredVlanInterface
from vfagent.model.inventory import Netdev, Pf
from vfagent.model.network import HostNetwork, Link
from vfagent.model.pci import PciAddress
from vfagent.plan.addresses import plan_addresses, plan_leftover_addresses, plan_way_back
from vfagent.plan.steps import CreateBridge, CreateVlan, DeleteLink, LinkChange, MarkLink, SetLink
from vfagent.plan.vf import Deferred, Planned, Problem

ParallelGroup = tuple[Planned, ...]


@frozen(slots=True)
class NetworkPlan:
    """Chains are done one after the other, and one that fails does not keep the next from being done."""

    groups: tuple[ParallelGroup, ...] = ()
    deferred: tuple[Deferred, ...] = ()
    waiting: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


Item = Planned | Deferred | str
"""A step, one that must wait, or what cannot be had."""


@frozen(slots=True)
class _Waits:
    """What must arrive first, and will be heard of."""

    text: str


def plan_network(desired: DesiredPf, pf: Pf) -> NetworkPlan:
    """Nothing where nothing was observed: then neither the rule nor what is there asks for anything."""
    network, netdev = pf.network, pf.netdev
    if network is None or netdev is None:
        return NetworkPlan()
    parts: list[list[Item | _Waits]] = [[*plan_leftover_addresses(desired, network), *_stale(desired, pf, network)]]
    parts.append([item for bridge in desired.bridges for item in plan_bridge(bridge, pf.address, network)])
    parts += [
        list(_vlan_interface(vlan_interface, desired, pf, netdev, network))
        for vlan_interface in desired.vlan_interfaces
    ]
    items = [item for part in parts for item in part]
    return NetworkPlan(
        groups=tuple(group for part in parts if (group := tuple(one for one in part if isinstance(one, Planned)))),
        deferred=tuple(item for item in items if isinstance(item, Deferred)),
        waiting=tuple(item.text for item in items if isinstance(item, _Waits)),
        problems=tuple(Problem(item) for item in items if isinstance(item, str)),
    )


def _stale(desired: DesiredPf, pf: Pf, network: HostNetwork) -> Iterator[Item]:
    """What vfagent made on this PF, and no rule wants any more."""
    wanted = {vlan_interface.name for vlan_interface in desired.vlan_interfaces}
    for link in network.links:
        on_this_pf = pf.netdev is not None and link.lower == pf.netdev.ifindex and link.kind == "vlan"
        if on_this_pf and link.managed and link.name not in wanted:
            yield _removal(link, pf.address, "not in the policy")


def _removal(link: Link, pf: PciAddress, reason: str) -> Item:
    step = DeleteLink(pf, link.name, link.ifindex)
    return Deferred(step, reason, f"{link.name} {link.management}") if link.management else Planned(step, reason)


def plan_bridge(want: DesiredBridge, pf: PciAddress, network: HostNetwork) -> Iterator[Item]:
    found = network.named(want.name)
    if found is None:
        yield Planned(CreateBridge(pf, want.name), "found none")
        yield from _set(want.name, None, LinkChange(vlan_filtering=want.vlan_filtering or None), pf, "a new bridge")
        yield from _set(want.name, None, LinkChange(mtu=want.mtu, up=True), pf, "a new bridge")
    elif found.kind != "bridge":
        yield f"{want.name}: is there, and is no bridge but {_kind(found)}"
    elif found.managed:
        yield from _marked(found, pf)
        yield from _bridge_changes(want, found, pf)


def _bridge_changes(want: DesiredBridge, found: Link, pf: PciAddress) -> Iterator[Item]:
    if found.vlan_filtering is not None and found.vlan_filtering != want.vlan_filtering:
        change = LinkChange(vlan_filtering=want.vlan_filtering)
        yield from _set(found.name, found.ifindex, change, pf, f"found {'on' if found.vlan_filtering else 'off'}")
    if want.mtu is not None and found.mtu != want.mtu:
        yield from _set(found.name, found.ifindex, LinkChange(mtu=want.mtu), pf, f"found {found.mtu}")
    if not found.admin_up:
        yield from _set(found.name, found.ifindex, LinkChange(up=True), pf, "found down")


def _vlan_interface(
    want: DesiredVlanInterface, desired: DesiredPf, pf: Pf, netdev: Netdev, network: HostNetwork
) -> Iterator[Item | _Waits]:
    bridge = network.named(want.bridge)
    if want.bridge and bridge is None and want.bridge not in {one.name for one in desired.bridges}:
        yield _Waits(f"{want.name}: its bridge {want.bridge} is not there, and no [[bridge]] rule makes it")
        return
    if bridge and bridge.kind != "bridge":
        yield f"{want.name}: {bridge.name} is no bridge but {_kind(bridge)}"
        return
    if bridge and not (bridge.managed or bridge.admin_up):
        yield _Waits(f"{want.name}: its bridge {bridge.name} is down, and somebody else's to bring up")
    items = list(_device(want, desired, pf, netdev, network))
    yield from items
    hindered = any(not isinstance(item, Planned) for item in items)
    if hindered:
        yield from plan_way_back(want, pf.address, network)
    else:
        yield from plan_addresses(want, desired, pf.address, network)


def _device(
    want: DesiredVlanInterface, desired: DesiredPf, pf: Pf, netdev: Netdev, network: HostNetwork
) -> Iterator[Item]:
    found = network.named(want.name)
    fits = found is not None and found.kind == "vlan" and (found.lower, found.vlan) == (netdev.ifindex, want.tag)
    if want.mtu is not None and want.mtu > max(netdev.mtu, desired.mtu or 0):
        yield f"{want.name}: mtu {want.mtu} is more than the PF's {netdev.mtu}; mtu in the [[pf]] rule raises that"
        return
    if found is None:
        yield from _new_device(want, pf, netdev, "found none")
    elif fits and found.managed:
        yield from _marked(found, pf.address)
        yield from _device_changes(want, found, pf, netdev, network)
    elif fits:
        yield from _foreign(want, found, network)
    elif found.managed and found.kind == "vlan" and found.lower != netdev.ifindex:
        # That PF's own look removes it, where no rule wants it there any more.
        yield on_another_pf(want.name)
    elif found.managed:
        removal = _removal(found, pf.address, f"found {found.vlan or _kind(found)}")
        yield removal
        if isinstance(removal, Planned):
            yield from _new_device(want, pf, netdev, "made anew")
    else:
        yield f"{want.name}: is there, made by somebody else, as {_kind(found)}; remove it, or choose another name"


def on_another_pf(name: str) -> str:
    return f"{name}: is another PF's VLAN device; a rule with [[pf.vlan]] is for one PF, so give each its own"


def _new_device(want: DesiredVlanInterface, pf: Pf, netdev: Netdev, reason: str) -> Iterator[Item]:
    yield Planned(CreateVlan(pf.address, netdev.name, netdev.ifindex, want.name, want.tag), reason)
    mtu = want.mtu if want.mtu is not None and want.mtu < netdev.mtu else None
    change = LinkChange(mtu=mtu, up=True, bridge=want.bridge)
    yield from _set(want.name, None, change, pf.address, "a new VLAN device")


def _device_changes(
    want: DesiredVlanInterface, found: Link, pf: Pf, netdev: Netdev, network: HostNetwork
) -> Iterator[Item]:
    mtu = min(want.mtu or netdev.mtu, netdev.mtu)  # what the PF lacks of it, its next round gives
    if found.mtu != mtu:
        yield from _set(found.name, found.ifindex, LinkChange(mtu=mtu), pf.address, f"found {found.mtu}")
    bridge = network.named(want.bridge)
    if want.bridge and (bridge is None or found.master != bridge.ifindex):
        yield from _set(found.name, found.ifindex, LinkChange(bridge=want.bridge), pf.address, "found no port of it")
    elif not want.bridge and found.master is not None:
        yield from _set(found.name, found.ifindex, LinkChange(bridge=""), pf.address, "found a port of a bridge")
    if not found.admin_up:
        yield from _set(found.name, found.ifindex, LinkChange(up=True), pf.address, "found down")


def _foreign(want: DesiredVlanInterface, found: Link, network: HostNetwork) -> Iterator[Item]:
    bridge = network.named(want.bridge)
    if want.bridge and (bridge is None or found.master != bridge.ifindex):
        yield f"{want.name}: is somebody else's, and no port of {want.bridge}; its owner is to put it there"
    elif not found.admin_up:
        yield f"{want.name}: is somebody else's, and down; its owner is to bring it up"


def _marked(found: Link, pf: PciAddress) -> Iterator[Item]:
    if found.unmarked:
        yield Planned(MarkLink(pf, found.name, found.ifindex), "found unmarked")


def _set(name: str, ifindex: int | None, change: LinkChange, pf: PciAddress, reason: str) -> Iterator[Item]:
    if change != LinkChange():
        yield Planned(SetLink(pf, name, ifindex, change), reason)


def _kind(link: Link) -> str:
    return f"{link.vlan} on ifindex {link.lower}" if link.vlan else f"a {link.kind or 'plain interface'}"
