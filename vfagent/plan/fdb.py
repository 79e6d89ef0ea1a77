# SPDX-License-Identifier: Apache-2.0
"""The PF's FDB: which MACs of the host's bridges the card's switch must know. Pure.

A VF's frame to a MAC that the card does not know leaves on the wire and never comes back. So VFs reach a bridge on a
VLAN interface of the PF, and what is behind its local ports, only with an FDB entry on the card (sriov-mac-sync).
"""

from vfagent.model.desired import DesiredPf
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Pf
from vfagent.model.vf_settings import Attribute
from vfagent.plan.network_steps import AddFdb, RemoveFdb
from vfagent.plan.quirks import Quirks
from vfagent.plan.vf import Planned

_NO_MAC = "00:00:00:00:00:00"


def plan_fdb(
    desired: DesiredPf, pf: Pf, driver_state: DriverState, quirks: Quirks
) -> tuple[tuple[Planned, ...], str | None]:
    """The steps, and a note where the FDB has no room for all MACs."""
    if pf.netdev is None or pf.network is None:
        return (), None
    wanted, entries, ifindex = _wanted(desired, pf), pf.network.fdb, pf.netdev.ifindex
    limit = _limit(driver_state, quirks, others=len(entries - driver_state.fdb))
    kept = wanted if limit is None else wanted[:limit]
    stale = sorted((driver_state.fdb & entries) - set(kept))
    removals = [Planned(RemoveFdb(pf.address, ifindex, mac), "left its bridge") for mac in stale]
    missing = () if Attribute.FDB in driver_state.unsupported else tuple(mac for mac in kept if mac not in entries)
    additions = [Planned(AddFdb(pf.address, ifindex, mac), "VFs could not reach it") for mac in missing]
    beyond = len(wanted) - len(kept)
    note = f"the card's FDB is full: VFs cannot reach {beyond} MACs of local bridge ports"
    return (*removals, *additions), note if beyond else None


def _limit(driver_state: DriverState, quirks: Quirks, others: int) -> int | None:
    limits = [] if quirks.most_fdb is None else [max(quirks.most_fdb - others, 0)]
    limits += [] if driver_state.fdb_full is None else [driver_state.fdb_full]
    return min(limits, default=None)


def _wanted(desired: DesiredPf, pf: Pf) -> list[str]:
    """The bridges' own MACs first. The card knows a VF's MAC already; in switchdev mode the bridge's ports tell it."""
    network = pf.network
    if network is None or not pf.vfs or pf.eswitch == "switchdev":
        return []
    names = dict.fromkeys(vlan_interface.bridge for vlan_interface in desired.vlan_interfaces if vlan_interface.bridge)
    bridges = [link for name in names if (link := network.named(name)) and link.kind == "bridge"]
    ports = {
        link.master
        for link in network.links
        if any(link.name == vlan_interface.name for vlan_interface in desired.vlan_interfaces)
    }
    joined = [bridge for bridge in bridges if bridge.ifindex in ports]
    learnt = [mac for bridge in joined for name, mac in network.learnt if name == bridge.name]
    known = {pf.netdev.mac if pf.netdev else "", _NO_MAC, *(vf.settings.mac for vf in pf.vfs if vf.settings)}
    return [mac for mac in dict.fromkeys([*(bridge.mac for bridge in joined), *learnt]) if mac not in known]
