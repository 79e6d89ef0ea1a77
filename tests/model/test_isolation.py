# SPDX-License-Identifier: Apache-2.0
"""A VF without the isolation that its rule asks for is not ready: no guest starts on it."""

import pytest
from hypothesis import given

from tests.model import ledger
from tests.model.agent import Agent, Run
from tests.model.budget import examples
from tests.model.devices import VFIO
from tests.model.drivers import DCB, DRIVERS, LOSING, NVME, REFUSING, STARTING, VIRTIO, PfDriver
from tests.model.hosts import Card, Port, cards, make_host, ports
from tests.model.policies import policies, policy_of
from tests.model.test_converge import check_ready
from vfagent.guests.spec.placement import ManagedPf, not_ready
from vfagent.model.vf_settings import Rate, VlanProtocol
from vfagent.policy.types import Policy, VfRule


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


def test_isolation_that_is_refused_for_a_while_is_set_later() -> None:
    agent, run = settled(STARTING, VfRule(driver=VFIO, vlan=10, trust=False))
    (pf,) = agent.kernel.present()
    assert None not in reasons(run)
    pf.starting = False
    assert agent.converge(pf.address).done == []
    agent.ten_minutes_pass(pf.address)
    run = agent.settle(pf.address)
    assert run.plan.settled
    assert reasons(run) == {None}


def test_isolation_that_is_accepted_and_lost_is_not_ready() -> None:
    _, run = settled(LOSING, VfRule(driver=VFIO, vlan=10))
    assert [failure.text.partition(": the kernel")[2] for failure in run.failures] == [
        " accepted it, but it does not hold: found vlan 0"
    ]
    assert None not in reasons(run)


def test_a_vf_is_not_bound_without_its_isolation() -> None:
    agent, _ = settled(REFUSING, VfRule(driver=VFIO, vlan=10))
    (pf,) = agent.kernel.present()
    assert [vf.driver for vf in pf.vfs] == [None, None]


@given(
    host=cards(ports((*DRIVERS, STARTING, LOSING), cable=(True, False))),
    policy=policies(),
    later=policies(),
)
@examples(150)
def test_a_vf_that_a_guest_may_get_has_its_isolation(*, host: tuple[Card, ...], policy: Policy, later: Policy) -> None:
    ledger.counted["histories"] += 1
    kernel = make_host(*host)
    agent = Agent(kernel, policy)
    for by in (policy, later):
        agent.policy = by
        for pf in kernel.present():
            check_ready(pf, agent.settle(pf.address))


def test_a_maximum_is_set_where_the_driver_refuses_its_minimum() -> None:
    agent, run = settled(DCB, VfRule(driver=VFIO, min_tx_rate=50, max_tx_rate=100))
    (pf,) = agent.kernel.present()
    assert not run.failures
    assert {vf.settings.rate for vf in pf.vfs} == {Rate(0, 100)}
