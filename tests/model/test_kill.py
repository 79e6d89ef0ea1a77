# SPDX-License-Identifier: Apache-2.0
"""vfagent is killed before and after every effect, and started again."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from tests.model import ledger
from tests.model.agent import Agent
from tests.model.budget import examples
from tests.model.devices import PfDevice
from tests.model.drivers import SILENT
from tests.model.facts import PfFacts, pf_facts, without_lost_new_vfs, without_probe_window
from tests.model.hosts import Port, make_host, ports
from tests.model.policies import one_rule, policy_of
from tests.model.process import Kill
from vfagent.policy.types import Policy, VfRule


def at_work(port: Port, earlier: Policy | None, policy: Policy) -> tuple[Agent, PfDevice]:
    """A host that converged with an earlier policy, if there is one, and now gets another."""
    kernel = make_host((port,))
    (pf,) = kernel.present()
    agent = Agent(kernel, policy if earlier is None else earlier)
    if earlier is not None:
        agent.settle(pf.address)
    agent.policy = policy
    return agent, pf


def kills(port: Port, earlier: Policy | None, policy: Policy) -> Iterator[Kill]:
    agent, pf = at_work(port, earlier, policy)
    for number in range(len(agent.converge(pf.address).done)):
        yield Kill(number, after=False)
        yield Kill(number, after=True)


def goal(port: Port, earlier: Policy | None, policy: Policy) -> PfFacts:
    agent, pf = at_work(port, earlier, policy)
    agent.settle(pf.address)
    return pf_facts(pf)


@given(port=ports(), earlier=st.none() | one_rule(), policy=one_rule(), forget=st.booleans())
@examples(40)
def test_after_a_kill_the_same_state_is_reached(
    *, port: Port, earlier: Policy | None, policy: Policy, forget: bool
) -> None:
    wanted = goal(port, earlier, policy)
    for kill in kills(port, earlier, policy):
        ledger.counted["histories"] += 1
        agent, pf = at_work(port, earlier, policy)
        assert agent.converge(pf.address, kill=kill).killed
        agent.restart(forget=forget)
        run = agent.settle(pf.address)
        assert not run.failures
        assert not run.plan.steps
        reached = without_probe_window(pf_facts(pf), wanted, agent.policy)
        assert (without_lost_new_vfs(reached, wanted, policy) if forget else reached) == wanted, kill


def test_settings_of_removed_vfs_are_not_assumed_for_new_ones() -> None:
    """The driver does not report trust, and the process died before it could store that these are new VFs."""
    trusted = VfRule(driver="vfio-pci", trust=True)
    case = Port(SILENT), policy_of(2, trusted), policy_of(3, trusted)
    for kill in kills(*case):
        agent, pf = at_work(*case)
        agent.converge(pf.address, kill=kill)
        agent.restart(forget=False)
        agent.settle(pf.address)
        assert [vf.settings.trust for vf in pf.vfs] == [True] * 3, kill
