# SPDX-License-Identifier: Apache-2.0
"""A kernel that creates and removes VFs of one card at a time, while the write for one of them hangs."""

from hypothesis import given
from hypothesis import strategies as st

from tests.model.agent import Agent
from tests.model.budget import examples
from tests.model.effects import Kind
from tests.model.hosts import Port, make_host, ports
from tests.model.policies import policies, policy_of
from tests.model.test_converge import check_settled
from vfagent.model.pci import PciAddress
from vfagent.policy.types import Policy, VfRule

STUCK = PciAddress("0000:10:00.0")
OTHER = PciAddress("0000:20:00.0")


@given(port=ports(cable=(True,)), policy=policies(), late=st.booleans())
@examples(100)
def test_every_other_card_waits_outside_the_kernel_and_converges_afterwards(
    *, port: Port, policy: Policy, late: bool
) -> None:
    kernel = make_host((Port(),), (port,), late_netdevs=late)
    kernel.let_time_pass()
    kernel.one_card, kernel.writer = True, STUCK
    agent = Agent(kernel, policy)
    run = agent.converge(OTHER)  # a write would be a KernelHang
    assert run.finished
    waits = [failure for failure in run.failures if failure.busy]
    assert bool(waits) == any(planned.step.KIND == "set_numvfs" for planned in run.plan.steps)
    assert all(failure.busy and failure.busy.hangs and STUCK in failure.text for failure in waits)
    kernel.writer = None
    check_settled(agent, kernel.pfs[OTHER], agent.settle(OTHER))


def test_a_card_whose_count_is_right_is_configured_meanwhile() -> None:
    kernel = make_host((Port(),), (Port(vfs=2),))
    kernel.let_time_pass()
    kernel.one_card, kernel.writer = True, STUCK
    run = Agent(kernel, policy_of(2, VfRule(vlan=10))).converge(OTHER)
    assert not run.failures
    assert [vf.settings.vlan and vf.settings.vlan.id for vf in kernel.pfs[OTHER].vfs] == [10, 10]


def test_without_the_lock_no_card_waits() -> None:
    kernel = make_host((Port(),), (Port(),))
    kernel.let_time_pass()
    kernel.writer = STUCK
    run = Agent(kernel, policy_of(2)).converge(OTHER)
    assert not run.failures
    assert Kind.NUMVFS in {effect.kind for effect in run.done}
    assert len(kernel.pfs[OTHER].vfs) == 2
