# SPDX-License-Identifier: Apache-2.0
"""Every host and every policy come together, and then nothing is done any more."""

from hypothesis import given
from hypothesis import strategies as st

from tests.model import ledger
from tests.model.agent import Agent, Run
from tests.model.budget import examples
from tests.model.devices import Groups, PfDevice
from tests.model.facts import pf_facts, shortcomings
from tests.model.hosts import Card, cards, make_host, ports
from tests.model.policies import policies
from vfagent.policy.types import Policy
from vfagent.reconcile import MOST_ROUNDS


def check_settled(agent: Agent, pf: PfDevice, run: Run) -> None:
    """It is as the policy wants it, and a further look finds nothing to do."""
    desired = run.looks[-1].desired
    assert not run.failures
    assert not run.plan.steps
    assert desired is None or not shortcomings(pf, desired)
    before = pf_facts(pf)
    again = agent.converge(pf.address)
    assert (again.done, len(again.looks), again.failures) == ([], 1, ())
    assert pf_facts(pf) == before


@given(
    host=cards(ports(cable=(True, False), groups=(Groups.OWN, Groups.NONE, Groups.WITH_PF))),
    policy=policies(),
    late=st.booleans(),
)
@examples(200)
def test_converges_in_one_look(host: tuple[Card, ...], policy: Policy, late: bool) -> None:  # noqa: FBT001
    ledger.counted["histories"] += 1
    kernel = make_host(*host, late_netdevs=late)
    kernel.let_time_pass()
    agent = Agent(kernel, policy)
    for pf in kernel.present():
        run = agent.converge(pf.address)
        assert len(run.looks) <= MOST_ROUNDS
        if run.looks[-1].desired is None:
            assert not run.done
        kernel.let_time_pass()
        check_settled(agent, pf, run)
