# SPDX-License-Identifier: Apache-2.0
"""`vfagent release` restores a PF to its state before vfagent, but not while a VF is in use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model import ledger
from tests.model.agent import Agent
from tests.model.budget import examples
from tests.model.devices import NO_MAC
from tests.model.drivers import BNX2X
from tests.model.facts import differences_from, pf_facts
from tests.model.hosts import Port, make_host, ports
from tests.model.policies import one_rule, policy_of
from tests.model.process import Kill
from tests.model.test_vf_users import USES, use_vf
from vfagent.errors import RefusedError, VfagentError
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import Vlan
from vfagent.policy.types import Policy, VfRule


def release(agent: Agent, address: PciAddress) -> None:
    """A PF that was not changed has no baseline to restore."""
    if agent.state.baseline(address):
        agent.release(address)


@given(port=ports(), policies=st.lists(one_rule(), min_size=1, max_size=2), kill=st.none() | st.integers(0, 30))
@examples(150)
def test_a_release_restores_the_pf(*, port: Port, policies: list[Policy], kill: int | None) -> None:
    ledger.counted["histories"] += 1
    kernel = make_host((port,))
    (pf,) = kernel.present()
    before = pf_facts(pf)
    agent = Agent(kernel, policies[0])
    for policy in policies:
        agent.policy = policy
        agent.converge(pf.address, kill=None if kill is None else Kill(kill, after=True))
    release(agent, pf.address)
    assert differences_from(pf, before) == []
    assert agent.state.baseline(pf.address) is None


@given(port=ports(), policy=one_rule(), number=st.integers(0, 25), after=st.booleans())
@examples(120)
def test_a_release_that_was_killed_can_be_run_again(*, port: Port, policy: Policy, number: int, after: bool) -> None:
    ledger.counted["histories"] += 1
    kernel = make_host((port,))
    (pf,) = kernel.present()
    before = pf_facts(pf)
    agent = Agent(kernel, policy)
    agent.settle(pf.address)
    if agent.state.baseline(pf.address):
        agent.release(pf.address, kill=Kill(number, after=after))
    release(agent, pf.address)
    assert differences_from(pf, before) == []


@given(port=ports(), policy=one_rule(), index=st.integers(0, 4), how=st.sampled_from(USES))
@examples(120)
def test_a_release_is_refused_while_a_vf_is_in_use(*, port: Port, policy: Policy, index: int, how: str) -> None:
    ledger.counted["histories"] += 1
    kernel = make_host((port,))
    (pf,) = kernel.present()
    agent = Agent(kernel, policy)
    agent.settle(pf.address)
    for vf in pf.vfs[index : index + 1]:
        use_vf(kernel, vf, how)
    before = pf_facts(pf)
    if pf.in_use and agent.state.baseline(pf.address):
        with pytest.raises(RefusedError):
            agent.release(pf.address)
        assert pf_facts(pf) == before


def test_a_release_of_an_unchanged_pf_is_an_error() -> None:
    kernel = make_host((Port(),))
    (pf,) = kernel.present()
    with pytest.raises(VfagentError, match="vfagent has not changed it"):
        Agent(kernel, Policy()).release(pf.address)


def test_vfs_that_had_no_mac_are_released_by_a_driver_that_refuses_a_mac_of_zeros() -> None:
    kernel = make_host((Port(BNX2X, vfs=2, up=True),))
    (pf,) = kernel.present()
    before, agent = pf_facts(pf), Agent(kernel, policy_of(2, VfRule(driver="vfio-pci", mac="stable", vlan=10)))
    agent.settle(pf.address)
    assert [(vf.settings.mac == NO_MAC, vf.settings.vlan) for vf in pf.vfs] == [(False, Vlan(10))] * 2
    agent.release(pf.address)
    assert differences_from(pf, before) == []


def test_a_port_in_use_stays_up_through_a_release() -> None:
    kernel = make_host((Port(),))
    (pf,) = kernel.present()
    agent = Agent(kernel, policy_of(2))
    assert pf.netdev
    agent.settle(pf.address)
    pf.netdev.addressed = True
    agent.release(pf.address)
    assert (len(pf.vfs), pf.netdev.admin_up) == (0, True)
