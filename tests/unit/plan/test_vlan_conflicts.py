# SPDX-License-Identifier: Apache-2.0
"""A VLAN interface that two PFs want is in the plan of one of them."""

from vfagent.model.network import VlanTag
from vfagent.model.pci import PciAddress
from vfagent.plan.network_steps import CreateVlan, LinkChange, SetLink
from vfagent.plan.planner import Plan
from vfagent.plan.steps import SetMtu
from vfagent.plan.vf import Planned
from vfagent.plan.vlan_conflicts import without_conflicts

FIRST, SECOND = PciAddress("0000:01:00.0"), PciAddress("0000:01:00.1")


def plan(pf: PciAddress, *interfaces: str) -> Plan:
    groups = tuple(
        (
            Planned(CreateVlan(pf, "ens1", 3, name, VlanTag(10)), "found none"),
            Planned(SetLink(pf, name, None, LinkChange(up=True)), "a new VLAN interface"),
        )
        for name in interfaces
    )
    return Plan(batches=(((Planned(SetMtu(pf, 3, 9000), "found 1500"),),),), independent=groups)


def test_the_first_of_two_pfs_creates_a_vlan_interface_and_the_second_has_a_problem() -> None:
    first, second = without_conflicts([plan(FIRST, "vlan10", "vlan11"), plan(SECOND, "vlan10", "vlan12")])
    assert first == plan(FIRST, "vlan10", "vlan11")
    assert second.steps == plan(SECOND, "vlan12").steps
    assert tuple(map(str, second.problems)) == (
        "vlan10: belongs to another PF; a rule with [[pf.vlan]] must match only one PF",
    )


def test_pfs_that_want_different_vlan_interfaces_keep_their_plans() -> None:
    plans = [plan(FIRST, "vlan10"), plan(SECOND, "vlan11"), Plan()]
    assert list(without_conflicts(plans)) == plans
