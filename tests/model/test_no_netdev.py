# SPDX-License-Identifier: Apache-2.0
"""PFs without a netdev: what is done for them, and what follows once the netdev is there."""

from tests.model.agent import Agent
from tests.model.devices import VFIO, PfDevice
from tests.model.drivers import CXGB4, LATE, PfDriver
from tests.model.hosts import Port, make_host
from tests.model.kernel import Kernel
from tests.model.policies import policy_of
from vfagent.model.vf_settings import Vlan
from vfagent.policy.types import VfRule
from vfagent.reconcile.reports import Report, StepEnded


def host_of(kind: PfDriver, vlan: int | None = 10) -> tuple[Kernel, PfDevice, Agent]:
    kernel = make_host((Port(kind, totalvfs=4),))
    (pf,) = kernel.present()
    return kernel, pf, Agent(kernel, policy_of(2, VfRule(driver=VFIO, vlan=vlan)))


def test_nothing_is_done_while_the_netdev_may_still_come() -> None:
    _, pf, agent = host_of(LATE)
    run = agent.converge(pf.address)
    assert (run.done, pf.vfs) == ([], [])
    assert tuple(map(str, run.plan.waiting)) == ("driver late has made no netdev yet",)


def test_vfs_are_made_and_bound_without_a_netdev_once_it_is_not_waited_for() -> None:
    _, pf, agent = host_of(LATE)
    run = agent.converge(pf.address, grace_over=True)
    assert not run.failures
    assert [vf.driver for vf in pf.vfs] == [VFIO] * 2
    assert [str(problem) for problem in run.plan.problems] == [
        f"vf{index}: vlan 10 cannot be set: the PF has no netdev" for index in range(2)
    ]
    assert agent.converge(pf.address, grace_over=True).done == []


def test_settings_follow_when_the_netdev_comes_late() -> None:
    kernel, pf, agent = host_of(LATE)
    agent.converge(pf.address, grace_over=True)
    vfs = list(pf.vfs)
    kernel.make_netdev(pf)
    run = agent.converge(pf.address)
    assert tuple(map(str, run.plan.waiting)) == (f"udev has not finished with p{pf.address}",)
    kernel.let_time_pass()
    run = agent.converge(pf.address)
    assert run.plan.settled
    assert [vf.settings.vlan for vf in pf.vfs] == [Vlan(10)] * 2
    assert pf.vfs == vfs  # not made again


def test_a_netdev_that_comes_while_the_vfs_are_made_sets_them_before_they_are_bound() -> None:
    kernel, pf, agent = host_of(LATE)

    def comes(report: Report) -> None:
        if isinstance(report, StepEnded) and pf.netdev is None and pf.vfs:
            kernel.make_netdev(pf)

    agent.converge(pf.address, grace_over=True, watch=comes)
    assert [vf.driver for vf in pf.vfs] == [None] * 2
    kernel.let_time_pass()
    assert agent.converge(pf.address).plan.settled
    assert [(vf.driver, vf.settings.vlan) for vf in pf.vfs] == [(VFIO, Vlan(10))] * 2


def test_a_netdev_that_comes_with_vfs_is_not_waited_for() -> None:
    kernel, pf, agent = host_of(CXGB4)
    agent.converge(pf.address)
    assert [vf.driver for vf in pf.vfs] == [None] * 2
    kernel.let_time_pass()
    run = agent.converge(pf.address)
    assert (run.failures, run.plan.settled) == ((), True)
    assert [(vf.driver, vf.settings.vlan) for vf in pf.vfs] == [(VFIO, Vlan(10))] * 2
    agent.policy = policy_of(0)
    assert agent.converge(pf.address).plan.settled
    assert (pf.vfs, pf.netdev) == ([], None)
