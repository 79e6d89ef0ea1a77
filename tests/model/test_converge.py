# SPDX-License-Identifier: Apache-2.0
"""Every host converges with every policy, and a converged host is not changed."""

import errno
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model import foreign, ledger
from tests.model.agent import Agent, Run
from tests.model.budget import examples
from tests.model.devices import VFIO, Groups, PfDevice
from tests.model.drivers import ALL, BNXT, FEW, I40E, IGB, NEEDS_UP, QAT, PfDriver
from tests.model.effects import Effect, Kind
from tests.model.facts import missing_isolation, pf_facts, shortcomings
from tests.model.hosts import Card, Port, cards, make_host, ports
from tests.model.policies import policies, policy_of
from tests.model.views import RtnlView
from vfagent.guests.spec.placement import ManagedPf, not_ready
from vfagent.model.vf_settings import VfSettings, Vlan
from vfagent.policy.types import Policy, VfRule
from vfagent.reconcile.rounds import MOST_ROUNDS


def check_settled(agent: Agent, pf: PfDevice, run: Run) -> None:
    """The PF is as the policy wants it, and another reconcile has nothing to do."""
    desired = run.observations[-1].desired
    check_ready(pf, run)
    if run.failures and pf.kind.loses:
        assert all("it does not hold" in failure.text for failure in run.failures)
        return
    assert not run.failures
    assert not run.plan.steps
    assert desired is None or not shortcomings(pf, desired)
    before = pf_facts(pf)
    if link_came_up(run):
        agent.converge(pf.address)  # what was refused while it was down is tried once more, when all VFs are there
    second = agent.converge(pf.address)
    assert (second.done, len(second.observations), second.failures) == ([], 1, ())
    assert pf_facts(pf) == before


def link_came_up(run: Run) -> bool:
    carriers = [observed.pf.netdev.carrier for observed in run.observations if observed.pf and observed.pf.netdev]
    return True in carriers[1:] and not carriers[0]


def check_ready(pf: PfDevice, run: Run) -> None:
    """A VF that a guest may get has the isolation that its rule asks for."""
    observed = run.observations[-1] if run.observations else None
    if observed is None or observed.pf is None or observed.desired is None:
        return
    managed = ManagedPf(observed.pf, observed.desired, observed.plan)
    wanted, devices = {vf.index: vf for vf in observed.desired.vfs}, {vf.index: vf for vf in pf.vfs}
    for vf in observed.pf.vfs:
        if vf.index in wanted and not_ready(managed, vf, wanted[vf.index]) is None:
            assert not missing_isolation(pf, devices[vf.index], wanted[vf.index]), vf.index


@given(
    host=cards(ports(cable=(True, False), groups=(Groups.OWN, Groups.NONE, Groups.WITH_PF))),
    policy=policies(),
    late=st.booleans(),
)
@examples(200)
def test_any_host_converges_with_any_policy_in_one_reconcile(
    *, host: tuple[Card, ...], policy: Policy, late: bool
) -> None:
    ledger.counted["histories"] += 1
    kernel = make_host(*host, late_netdevs=late)
    kernel.let_time_pass()
    agent = Agent(kernel, policy)
    for pf in kernel.present():
        run = agent.converge(pf.address)
        assert len(run.observations) <= MOST_ROUNDS
        if run.observations[-1].desired is None:
            assert not run.done
        kernel.let_time_pass()
        check_settled(agent, pf, run)


def test_fewer_vfs_than_asked_for_are_configured_and_not_created_again() -> None:
    kernel = make_host((Port(FEW, totalvfs=8),))
    (pf,) = kernel.present()
    agent = Agent(kernel, policy_of(4, VfRule(driver=VFIO, vlan=10)))
    run = agent.settle(pf.address)
    assert [(vf.driver, vf.settings.vlan) for vf in pf.vfs] == [(VFIO, Vlan(10))] * 2
    assert tuple(map(str, run.plan.problems)) == ("the driver creates only 2 of the 4 VFs that rule 'rule' asks for",)
    assert agent.converge(pf.address).done == []


@pytest.mark.parametrize("driver", [ALL, QAT])
def test_vfs_of_a_driver_that_makes_all_or_none_are_made_once(driver: PfDriver) -> None:
    kernel = make_host((Port(driver, totalvfs=8),))
    (pf,) = kernel.present()
    agent = Agent(kernel, policy_of(3, VfRule(driver=VFIO)))
    run = agent.settle(pf.address)
    assert [vf.driver for vf in pf.vfs] == [VFIO] * 3 + [None] * 5
    text = f"driver {driver} makes 8 VFs where rule 'rule' asks for 3: ask for vfs = \"max\""
    assert tuple(map(str, run.plan.problems)) == (text,)
    agent.restart(forget=False)
    assert agent.converge(pf.address).done == []
    agent.policy = policy_of(8, VfRule(driver=VFIO))
    effects = agent.settle(pf.address).done
    assert [vf.driver for vf in pf.vfs] == [VFIO] * 8
    assert not any(effect.kind is Kind.NUMVFS for effect in effects)
    agent.policy = policy_of(0)
    assert not agent.settle(pf.address).plan.problems
    assert pf.vfs == []


def test_a_vf_whose_vlan_is_refused_while_the_port_is_down_is_bound_after_it_was_set() -> None:
    kernel = make_host((Port(NEEDS_UP, totalvfs=8),))
    (pf,) = kernel.present()
    agent = Agent(kernel, policy_of(2, VfRule(driver=VFIO, vlan=10)))
    run = agent.converge(pf.address)
    assert [failure.step for failure in run.failures] == ["configure_vf"] * 2
    assert pf.netdev is not None
    assert pf.netdev.admin_up
    assert [vf.driver for vf in pf.vfs] == [None] * 2
    assert not agent.converge(pf.address).failures
    assert [(vf.driver, vf.settings.vlan) for vf in pf.vfs] == [(VFIO, Vlan(10))] * 2


def test_a_vf_whose_rate_is_refused_is_bound_all_the_same() -> None:
    """A rate isolates nobody, and where a driver is set before it is bound all settings come in one step."""
    kernel = make_host((Port(I40E, totalvfs=8),))
    (pf,) = kernel.present()
    agent = Agent(kernel, policy_of(1, VfRule(driver=VFIO, vlan=10, max_tx_rate=100)))

    def no_rates(number: int, effect: Effect) -> int:
        return errno.EINVAL if effect.settings.rate else 0

    assert agent.converge(pf.address, fault=no_rates).failures
    assert [(vf.driver, vf.settings.vlan) for vf in pf.vfs] == [(VFIO, Vlan(10))]


def test_a_port_is_brought_up_first_where_its_driver_needs_that_for_vfs() -> None:
    kernel = make_host((Port(BNXT, totalvfs=8),))
    (pf,) = kernel.present()
    agent = Agent(kernel, policy_of(2))
    assert not agent.converge(pf.address).failures
    foreign.sets_down(pf)
    agent.policy = policy_of(0)
    assert not agent.converge(pf.address).failures
    assert pf.vfs == []


@pytest.mark.parametrize(("driver", "sizes"), [(IGB, [8, 2]), (I40E, [1] * 10)], ids=["igb", "i40e"])
def test_vfs_are_configured_in_few_messages_unless_the_driver_resets_each(
    driver: PfDriver, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    messages: list[int] = []
    set_vfs = RtnlView.set_vfs

    def counted(view: RtnlView, ifindex: int, settings: Mapping[int, VfSettings]) -> None:
        messages.append(len(settings))
        set_vfs(view, ifindex, settings)

    monkeypatch.setattr(RtnlView, "set_vfs", counted)
    kernel = make_host((Port(driver, totalvfs=10),))
    (pf,) = kernel.present()
    Agent(kernel, policy_of(10, VfRule(vlan=10))).settle(pf.address)
    assert messages == sizes
    assert [vf.settings.vlan.id for vf in pf.vfs if vf.settings.vlan] == [10] * 10
