# SPDX-License-Identifier: Apache-2.0
"""What two PFs want both is in the plan of one."""

from vfagent.model.network import VlanTag
from vfagent.model.pci import PciAddress
from vfagent.plan.planner import Plan
from vfagent.plan.steps import CreateVlan, LinkChange, SetLink, SetMtu
from vfagent.plan.vf import Planned
from vfagent.plan.vlan_conflicts import without_conflicts

FIRST, SECOND = PciAddress("0000:01:00.0"), PciAddress("0000:01:00.1")


def plan(pf: PciAddress, *devices: str) -> Plan:
    groups = tuple(
        (
            Planned(CreateVlan(pf, "ens1", 3, name, VlanTag(10)), "found none"),
            Planned(SetLink(pf, name, None, LinkChange(up=True)), "a new VLAN device"),
        )
        for name in devices
    )
    return Plan(batches=(((Planned(SetMtu(pf, 3, 9000), "found 1500"),),),), independent=groups)


def test_a_vlan_device_that_two_pfs_want_is_made_by_the_first_and_a_problem_of_the_second() -> None:
    first, second = without_conflicts([plan(FIRST, "vlan10", "vlan11"), plan(SECOND, "vlan10", "vlan12")])
    assert first == plan(FIRST, "vlan10", "vlan11")
    assert second.steps == plan(SECOND, "vlan12").steps
    assert tuple(map(str, second.problems)) == (
        "vlan10: is another PF's VLAN device; a rule with [[pf.vlan]] is for one PF, so give each its own",
    )


def test_pfs_that_want_different_devices_keep_their_plans() -> None:
    plans = [plan(FIRST, "vlan10"), plan(SECOND, "vlan11"), Plan()]
    assert list(without_conflicts(plans)) == plans
