# SPDX-License-Identifier: Apache-2.0
"""The policy that comes back after a trial: nobody can confirm by the session that the trial cut off."""

from dataclasses import replace

import pytest

from tests.unit.plan.test_cases import IDENTITY
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Netdev, Pf
from vfagent.model.network import MANAGED_ALIAS, Address, Borrowed, HostNetwork, Link, VlanTag
from vfagent.model.pci import PciAddress
from vfagent.plan.planner import Plan, plan_leftovers, plan_pf
from vfagent.policy.host_network import nothing_desired
from vfagent.policy.match import desired_pf
from vfagent.policy.types import Policy
from vfagent.store.policy_files import load_text

SESSION = "carries an SSH session"
PORT = Netdev("ens1", 4, "52:54:00:00:00:01", None, 1500, admin_up=True, management=f"is below v99, which {SESSION}")
LEFT = Link(
    "v99",
    9,
    kind="vlan",
    lower=4,
    vlan=VlanTag(99),
    alias=MANAGED_ALIAS,
    admin_up=True,
    addresses=(Address("192.0.2.1/24", managed=True),),
    management=SESSION,
)
LENDER = Link("ens1", 4, admin_up=True)
NETWORK = HostNetwork((LENDER, LEFT), borrowed=(Borrowed("192.0.2.1/24", "ens1"),))
PF = Pf(PciAddress("0000:01:00.0"), "igb", "0x8086", "0x10c9", "0x020000", 7, None, netdev=PORT, network=NETWORK)


def planned(policy: Policy) -> Plan:
    desired = desired_pf(policy, PF, IDENTITY)
    if desired is None:
        return plan_leftovers(nothing_desired(policy, PF.address), PF, DriverState())
    return plan_pf(desired, PF, DriverState())


@pytest.mark.parametrize("rules", ["", '[[pf]]\nname = "a"\nmatch.driver = "igb"\nvfs = 2\n'])
def test_what_carries_the_lost_session_goes_back_too(rules: str) -> None:
    before = load_text("before", rules)
    assert SESSION in " ".join(deferred.blocker for deferred in planned(before).deferred)
    back = planned(replace(before, ends_trial=True))
    assert not back.deferred
    steps = [planned.step.describe() for planned in back.steps]
    assert "move 192.0.2.1/24 with routes from v99 to ens1" in steps
    assert "remove v99" in steps
