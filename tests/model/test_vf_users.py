# SPDX-License-Identifier: Apache-2.0
"""What would disturb whoever uses a VF waits until they let go, and is done then."""

from hypothesis import given
from hypothesis import strategies as st

from tests.model import foreign, ledger
from tests.model.agent import Agent
from tests.model.budget import examples
from tests.model.devices import PfDevice, VfDevice
from tests.model.drivers import IGB, NIC_DRIVERS, SILENT
from tests.model.facts import shortcomings
from tests.model.hosts import Port, make_host, ports
from tests.model.kernel import Kernel
from tests.model.policies import one_rule, policy_of
from vfagent.model.vf_settings import Rate, Vlan
from vfagent.policy.types import Policy, VfRule
from vfagent.reconcile.reports import Report, StepStarted

USES = ("held", "up", "port", "addressed", "away")
VFIO_VFS = VfRule(driver="vfio-pci", vlan=10)


def take(kernel: Kernel, vf: VfDevice, how: str) -> None:
    if how == "held":
        foreign.opens_group(vf)
    elif how == "away":
        foreign.moves_netdev_away(kernel, vf)
    else:
        foreign.uses_netdev(vf, how)


def converged(port: Port, policy: Policy) -> tuple[Agent, PfDevice]:
    kernel = make_host((port,))
    (pf,) = kernel.present()
    agent = Agent(kernel, policy)
    agent.settle(pf.address)
    return agent, pf


@given(
    port=ports(),
    first=one_rule(),
    then=one_rule(),
    uses=st.lists(st.tuples(st.integers(0, 7), st.sampled_from(USES)), min_size=1, max_size=3),
)
@examples(150)
def test_a_new_policy_waits_for_those_who_use_a_vf(
    *, port: Port, first: Policy, then: Policy, uses: list[tuple[int, str]]
) -> None:
    ledger.counted["histories"] += 1
    agent, pf = converged(port, first)
    for index, how in uses:
        for vf in pf.vfs[index : index + 1]:
            take(agent.kernel, vf, how)
    agent.policy = then
    run = agent.settle(pf.address)
    assert not run.failures
    if pf.in_use and not run.plan.deferred:
        assert agent.converge(pf.address).done == []
    foreign.lets_go(agent.kernel)
    run = agent.settle(pf.address)
    desired = run.looks[-1].desired
    assert not run.plan.deferred
    assert desired is None or not shortcomings(pf, desired)


@given(
    port=ports(),
    earlier=st.none() | one_rule(),
    policy=one_rule(),
    at=st.integers(0, 25),
    index=st.integers(0, 4),
    # Not "away": a VF that shows no netdev any more looks like one that does not show it yet.
    how=st.sampled_from(("held", "up", "port", "addressed")),
)
@examples(200)
def test_a_vf_is_left_alone_that_is_taken_between_plan_and_step(
    *, port: Port, earlier: Policy | None, policy: Policy, at: int, index: int, how: str
) -> None:
    ledger.counted["histories"] += 1
    agent, pf = converged(port, policy if earlier is None else earlier)
    agent.policy = policy
    steps: list[StepStarted] = []

    def watch(report: Report) -> None:
        if isinstance(report, StepStarted):
            steps.append(report)
            if len(steps) == at + 1 and index < len(pf.vfs):
                take(agent.kernel, pf.vfs[index], how)

    agent.converge(pf.address, watch=watch)
    foreign.lets_go(agent.kernel)
    desired = agent.settle(pf.address).looks[-1].desired
    assert desired is None or not shortcomings(pf, desired)


def test_six_vfs_for_four_while_nobody_holds_one() -> None:
    agent, pf = converged(Port(), policy_of(4, VFIO_VFS))
    agent.policy = policy_of(6, VFIO_VFS)
    agent.converge(pf.address)
    assert [vf.driver for vf in pf.vfs] == ["vfio-pci"] * 6


def test_six_vfs_for_four_while_one_is_held() -> None:
    agent, pf = converged(Port(), policy_of(4, VFIO_VFS))
    foreign.opens_group(pf.vfs[3])
    agent.policy = policy_of(6, VFIO_VFS)
    run = agent.converge(pf.address)
    (waiting,) = run.plan.deferred
    assert (run.done, len(pf.vfs)) == ([], 4)
    assert waiting.blocker == "vf3: its VFIO group is held open"
    foreign.closes_group(pf.vfs[3])
    agent.converge(pf.address)
    assert len(pf.vfs) == 6


def test_what_disturbs_nobody_is_set_on_a_held_vf() -> None:
    agent, pf = converged(Port(up=True), policy_of(2, VFIO_VFS))
    foreign.opens_group(pf.vfs[0])
    agent.policy = policy_of(2, VfRule(driver="vfio-pci", vlan=20, spoof_check=False, max_tx_rate=500))
    run = agent.converge(pf.address)
    assert [item.step.describe() for item in run.plan.deferred] == ["set 0000:10:00.0/vf0 vlan 20"]
    held, free = pf.vfs[0].settings, pf.vfs[1].settings
    assert (held.vlan, held.spoof_check, held.rate) == (Vlan(10), False, Rate(0, 500))
    assert (free.vlan, free.spoof_check, free.rate) == (Vlan(20), False, Rate(0, 500))


@given(port=ports(NIC_DRIVERS, management=(True,)), policy=one_rule())
@examples(100)
def test_the_pf_that_administers_the_host_is_left_alone(*, port: Port, policy: Policy) -> None:
    ledger.counted["histories"] += 1
    kernel = make_host((port,))
    (pf,) = kernel.present()
    assert pf.netdev
    run = Agent(kernel, policy).settle(pf.address)
    assert (len(pf.vfs), pf.netdev.mtu, pf.netdev.admin_up) == (port.vfs, port.mtu, True)
    assert not run.failures


def test_the_pf_that_administers_the_host_is_changed_where_the_rule_says_so() -> None:
    _, pf = converged(Port(management=True), policy_of(3, VFIO_VFS, mtu=9000, allow_management=True))
    assert pf.netdev
    assert (len(pf.vfs), pf.netdev.mtu) == (3, 9000)


def test_an_unsupported_attribute_is_learnt_and_noted_once() -> None:
    agent, pf = converged(Port(IGB), policy_of(2, VfRule(link_state=None, max_tx_rate=100, min_tx_rate=50)))
    run = agent.converge(pf.address)
    assert run.done == []
    assert run.plan.notes == ("min_tx_rate is not supported by igb",)
    assert pf.vfs[0].settings.rate == Rate(0, 100)


def test_what_a_driver_does_not_report_is_set_again_where_what_it_reports_was_lost() -> None:
    agent, pf = converged(Port(SILENT), policy_of(2, VfRule(driver="vfio-pci", vlan=10, trust=True)))
    foreign.resets(pf)
    agent.converge(pf.address)
    assert [(vf.settings.vlan, vf.settings.trust) for vf in pf.vfs] == [(Vlan(10), True)] * 2


def test_what_a_driver_does_not_report_is_set_once_while_the_rest_is_deferred() -> None:
    agent, pf = converged(Port(SILENT), policy_of(2, VfRule(driver="vfio-pci", vlan=10, spoof_check=False)))
    foreign.opens_group(pf.vfs[0])
    foreign.sets_vlan(pf.vfs[0], 7)
    agent.converge(pf.address)
    run = agent.converge(pf.address)
    assert (run.done, run.failures, len(run.plan.deferred)) == ([], (), 1)
