# SPDX-License-Identifier: Apache-2.0
"""The PF's FDB: which MACs of the host's bridges the card's switch must know. Pure.

A VF's frame to a MAC that the card does not know leaves on the wire and never comes back. So VFs reach a bridge above
the PF, and what is behind its local ports, only with an FDB entry on the card (sriov-mac-sync).
"""

from collections.abc import Iterator

from vfagent.model.desired import DesiredPf
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Pf
from vfagent.model.network import HostNetwork, Link
from vfagent.model.vf_settings import NO_MAC, Attribute
from vfagent.plan.local_macs import MOST_PER_PORT
from vfagent.plan.network_steps import AddFdb, FdbStep, RemoveFdb
from vfagent.plan.quirks import Quirks
from vfagent.plan.vf import ParallelGroup, Planned


def plan_fdb(
    desired: DesiredPf, pf: Pf, driver_state: DriverState, quirks: Quirks
) -> tuple[tuple[Planned, ...], tuple[str, ...]]:
    """The steps, and notes on the MACs that the FDB does not get."""
    if pf.netdev is None or pf.network is None:
        return (), ()
    wanted, entries, ifindex = _wanted(desired, pf), pf.network.fdb, pf.netdev.ifindex
    limit = _limit(driver_state, quirks, others=len(entries - driver_state.fdb))
    kept = wanted if limit is None else wanted[:limit]
    stale = sorted((driver_state.fdb & entries) - set(kept))
    why = "left its bridge" if desired.fdb else "not in the policy"
    removals = [Planned(RemoveFdb(pf.address, ifindex, mac), why) for mac in stale]
    missing = () if Attribute.FDB in driver_state.unsupported else tuple(mac for mac in kept if mac not in entries)
    additions = [Planned(AddFdb(pf.address, ifindex, mac), "VFs could not reach it") for mac in missing]
    if driver_state.fdb_refusal and (removals or additions):
        why = f"the card refuses FDB entries ({driver_state.fdb_refusal}): VFs cannot reach {len(additions)} MACs"
        return (), (f"{why} of local bridge ports",)
    beyond = len(wanted) - len(kept)
    full = (f"the card's FDB is full: VFs cannot reach {beyond} MACs of local bridge ports",) if beyond else ()
    return (*removals, *additions), (*full, *(_left_out(pf.network) if wanted else ()))


def _left_out(network: HostNetwork) -> Iterator[str]:
    for port in network.crowded:
        yield f"more than {MOST_PER_PORT} MACs are behind {port}: VFs reach only {MOST_PER_PORT} of them"
    for port, mac in network.on_the_wire:
        yield f"{port} uses {mac}, the MAC of a host on the wire: VFs reach it only there"


def without_fdb(steps: ParallelGroup) -> ParallelGroup:
    """The FDB follows what guests do: its steps count neither as a plan that fails nor as one that is reverted."""
    return tuple(planned for planned in steps if not isinstance(planned.step, FdbStep))


def _limit(driver_state: DriverState, quirks: Quirks, others: int) -> int | None:
    limits = [] if quirks.most_fdb is None else [max(quirks.most_fdb - others, 0)]
    limits += [] if driver_state.fdb_full is None else [driver_state.fdb_full]
    return min(limits, default=None)


def _wanted(desired: DesiredPf, pf: Pf) -> list[str]:
    """The bridges' own MACs first. The card knows a VF's MAC already; in switchdev mode the bridge's ports tell it.

    What comes by a bond's backup port is dropped (bond_should_deliver_exact_match()): a VF of that PF reaches the
    bridge by the wire, through the bond's other port.
    """
    network = pf.network
    if network is None or not desired.fdb or not pf.vfs or pf.eswitch == "switchdev" or network.bond_backup:
        return []
    joined = bridges_above(pf)
    learnt = [mac for bridge in joined for name, mac in network.learnt if name == bridge.name]
    known = {pf.netdev.mac if pf.netdev else "", NO_MAC, *(vf.settings.mac for vf in pf.vfs if vf.settings)}
    return [mac for mac in dict.fromkeys([*(bridge.mac for bridge in joined), *learnt]) if mac not in known]


def bridges_above(pf: Pf) -> list[Link]:
    """The bridges that stand on the PF, on a VLAN interface or a bond of it, whoever made them."""
    network, netdev = pf.network, pf.netdev
    if network is None or netdev is None:
        return []
    above = set[int]()
    first = network.named(netdev.master)
    todo = [netdev.ifindex, *([first.ifindex] if first else [])]
    while todo:
        ifindex = todo.pop()
        if ifindex not in above:
            above.add(ifindex)
            todo += _uppers(ifindex, network)
    return [link for link in network.links if link.ifindex in above and link.kind == "bridge"]


def _uppers(ifindex: int, network: HostNetwork) -> Iterator[int]:
    for link in network.links:
        if link.lower == ifindex and link.kind == "vlan":
            yield link.ifindex
        if link.ifindex == ifindex and link.master is not None:
            yield link.master
