# SPDX-License-Identifier: Apache-2.0
"""Every host and every policy come together, and then nothing is done any more."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model import foreign, ledger
from tests.model.agent import Agent, Run
from tests.model.budget import examples
from tests.model.devices import VFIO, Groups, PfDevice
from tests.model.drivers import BNXT, FEW, I40E, IGB, PfDriver
from tests.model.facts import pf_facts, shortcomings
from tests.model.hosts import Card, Port, cards, make_host, ports
from tests.model.policies import policies, policy_of
from tests.model.views import RtnlView
from vfagent.model.vf_settings import VfSettings, Vlan
from vfagent.policy.types import Policy, VfRule
from vfagent.reconcile.rounds import MOST_ROUNDS


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


def test_of_a_driver_that_makes_fewer_vfs_those_are_ready_and_it_is_not_asked_again() -> None:
    kernel = make_host((Port(FEW, totalvfs=8),))
    (pf,) = kernel.present()
    agent = Agent(kernel, policy_of(4, VfRule(driver=VFIO, vlan=10)))
    run = agent.settle(pf.address)
    assert [(vf.driver, vf.settings.vlan) for vf in pf.vfs] == [(VFIO, Vlan(10))] * 2
    assert tuple(map(str, run.plan.problems)) == ("the driver creates only 2 of the 4 VFs that rule 'rule' asks for",)
    assert agent.converge(pf.address).done == []


def test_a_driver_that_says_yes_while_its_port_is_down_and_makes_none_has_its_port_brought_up_first() -> None:
    kernel = make_host((Port(BNXT, totalvfs=8),))
    (pf,) = kernel.present()
    agent = Agent(kernel, policy_of(2))
    assert not agent.converge(pf.address).failures
    foreign.sets_down(pf)
    agent.policy = policy_of(0)
    assert not agent.converge(pf.address).failures
    assert pf.vfs == []


@pytest.mark.parametrize(("driver", "sizes"), [(IGB, [8, 2]), (I40E, [1] * 10)], ids=["igb", "i40e"])
def test_vfs_are_set_together_but_where_the_driver_waits_for_a_reset_of_each(
    driver: PfDriver, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    messages: list[int] = []
    one_message = RtnlView.set_vfs

    def counted(view: RtnlView, ifindex: int, settings: Mapping[int, VfSettings]) -> None:
        messages.append(len(settings))
        one_message(view, ifindex, settings)

    monkeypatch.setattr(RtnlView, "set_vfs", counted)
    kernel = make_host((Port(driver, totalvfs=10),))
    (pf,) = kernel.present()
    Agent(kernel, policy_of(10, VfRule(vlan=10))).settle(pf.address)
    assert messages == sizes
    assert [vf.settings.vlan.id for vf in pf.vfs if vf.settings.vlan] == [10] * 10
