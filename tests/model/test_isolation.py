# SPDX-License-Identifier: Apache-2.0
"""A VF without the isolation that its rule asks for is not ready: no guest starts on it."""

import pytest

from tests.model.agent import Agent, Run
from tests.model.devices import VFIO
from tests.model.drivers import DCB, NVME, REFUSING, VIRTIO, PfDriver
from tests.model.hosts import Port, make_host
from tests.model.policies import policy_of
from vfagent.guests.spec.placement import ManagedPf, not_ready
from vfagent.model.vf_settings import Rate, VlanProtocol
from vfagent.policy.types import VfRule


def settled(driver: PfDriver, rule: VfRule) -> tuple[Agent, Run]:
    kernel = make_host((Port(driver),))
    (pf,) = kernel.present()
    agent = Agent(kernel, policy_of(2, rule))
    return agent, agent.settle(pf.address)


def reasons(run: Run) -> set[str | None]:
    """Why a guest cannot get each of the VFs."""
    observed = run.observations[-1]
    assert observed.pf
    assert observed.desired
    managed = ManagedPf(observed.pf, observed.desired, observed.plan)
    return {not_ready(managed, vf, observed.desired.vfs[vf.index]) for vf in observed.pf.vfs}


@pytest.mark.parametrize(
    ("driver", "rule", "words"),
    [
        (REFUSING, VfRule(driver=VFIO, vlan=10), "refusing refuses it: EOPNOTSUPP"),
        (REFUSING, VfRule(driver=VFIO, vlan=10, vlan_protocol=VlanProtocol.DOT1AD), "vlan 10 802.1ad does not hold"),
        (REFUSING, VfRule(driver=VFIO, trust=False), "trust off does not hold (found trust not reported)"),
        (VIRTIO, VfRule(driver=VFIO, mac="stable"), "does not hold (found mac not reported)"),
        (VIRTIO, VfRule(driver=VFIO, spoof_check=True), "spoof_check on does not hold"),
        (NVME, VfRule(driver=VFIO, vlan=10), "vlan 10 cannot be set: the PF has no netdev"),
    ],
)
def test_a_vf_whose_isolation_is_refused_is_not_ready(driver: PfDriver, rule: VfRule, words: str) -> None:
    _, run = settled(driver, rule)
    assert not run.plan.settled
    assert {problem.vf for problem in run.plan.problems} == {0, 1}
    assert all(words in (reason or "ready") for reason in reasons(run))


@pytest.mark.parametrize(
    "rule",
    [
        VfRule(driver=VFIO, vlan=10, optional=("vlan",)),
        VfRule(driver=VFIO, vlan=0),
        VfRule(driver=VFIO, spoof_check=True),  # refused, but it is on all the same
        VfRule(driver=VFIO, trust=True),
    ],
)
def test_what_isolates_nobody_or_is_optional_or_holds_all_the_same_is_no_problem(rule: VfRule) -> None:
    _, run = settled(REFUSING, rule)
    assert run.plan.settled
    assert reasons(run) == {None}


def test_a_maximum_is_set_where_the_driver_refuses_its_minimum() -> None:
    agent, run = settled(DCB, VfRule(driver=VFIO, min_tx_rate=50, max_tx_rate=100))
    (pf,) = agent.kernel.present()
    assert not run.failures
    assert {vf.settings.rate for vf in pf.vfs} == {Rate(0, 100)}
