# SPDX-License-Identifier: Apache-2.0
"""Bonds, bridges and Open vSwitch of other programs keep their ports, and the VLANs that come by them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model import foreign, ledger
from tests.model.agent import Agent
from tests.model.budget import examples
from tests.model.effects import Effect, Kind
from tests.model.kernel import Kernel
from tests.model.process import Fault, Kill
from tests.model.test_network import TAG, Before, hosts, make, policies
from vfagent.errors import VfagentError
from vfagent.policy.types import PfMatch, PfRule, Policy, VlanRule

KINDS = st.sampled_from(tuple(foreign.MASTERS))
NO_RULE = Policy(digest="read")


def once(kernel: Kernel, at: int, name: str, kind: str) -> Fault:
    """Makes an interface a port before the effect of this number, or the next one that joins and removes nothing.

    vfagent checks who has a port right before it changes it; between the two no kernel interface keeps others away. Nor
    does it matter that a PF which becomes a port has just been closed to routers: so that is over, or comes afterwards.
    """
    acted = list[int]()

    def fault(number: int, effect: Effect) -> int:
        guarded = effect.kind is Kind.IPV6 or (effect.kind is Kind.LINK and effect.value != "mark")
        conf = kernel.ipv6_conf(name)
        closing = name in kernel.netdevs and conf is not None and conf["accept_ra"]
        if number >= at and not acted and not guarded and not closing:
            acted.append(number)
            foreign.takes_port(kernel, name, kind)
        return 0

    return fault


def master_of(kernel: Kernel, name: str) -> str | None:
    link = kernel.links.named(name)
    return kernel.links.at(link.master).name if link and link.master else None


@given(before=hosts(), policy=policies(), after=st.none() | policies(), kind=KINDS, at=st.integers(0, 16))
@examples(120)
def test_a_pf_that_becomes_a_port_gets_no_vlan_interface_any_more(
    before: Before, policy: Policy, after: Policy | None, kind: str, at: int
) -> None:
    """A VLAN interface that is made on a port violates what vfagent must never do."""
    ledger.counted["histories"] += 1
    kernel, pf = make(before)
    assert pf.netdev is not None
    name, agent = pf.netdev.name, Agent(kernel, policy)
    agent.converge(pf.address, fault=once(kernel, at, name, kind))
    foreign.takes_port(kernel, name, kind)
    agent.settle(pf.address)
    agent.policy = after or policy
    run = agent.settle(pf.address)
    assert master_of(kernel, name) == foreign.MASTERS[kind]
    missing = [vlan for vlan in agent.policy.pf[0].vlan if vlan.name not in kernel.links.created]
    assert not (missing and run.plan.settled)
    foreign.frees_port(kernel, name)
    run = agent.settle(pf.address)
    assert not [problem for problem in run.plan.problems if "is a port of" in str(problem)]


@given(before=hosts(), policy=policies(), after=st.none() | policies(), kind=KINDS, at=st.integers(0, 24))
@examples(120)
def test_a_vlan_interface_stays_in_what_another_program_put_it_into(
    before: Before, policy: Policy, after: Policy | None, kind: str, at: int
) -> None:
    ledger.counted["histories"] += 1
    kernel, pf = make(before)
    agent = Agent(kernel, policy)
    agent.converge(pf.address, fault=once(kernel, at, "vlan10", kind))
    agent.settle(pf.address)
    if "vlan10" not in kernel.links.created:
        return
    foreign.takes_port(kernel, "vlan10", kind)
    for policy_now in (policy, after or policy, NO_RULE):
        agent.policy = policy_now
        run = agent.settle(pf.address)
        assert master_of(kernel, "vlan10") == foreign.MASTERS[kind]
    blockers = {late.step.describe(): late.blocker for late in run.plan.deferred}
    assert "vfagent did not put it there" in blockers["remove vlan10"]
    with pytest.raises(VfagentError):
        agent.release(pf.address)
    foreign.frees_port(kernel, "vlan10")
    run = agent.settle(pf.address)
    administered = any("carries the default route" in late.blocker for late in run.plan.deferred)
    assert administered or "vlan10" not in kernel.links.created


@given(before=hosts(), policy=policies(), number=st.integers(0, 20), after=st.booleans())
@examples(60)
def test_after_a_kill_a_vlan_interface_leaves_the_foreign_bridge_it_was_put_into(
    before: Before, policy: Policy, number: int, *, after: bool
) -> None:
    kernel, pf = make(before)
    agent = Agent(kernel, policy)
    agent.converge(pf.address, kill=Kill(number, after))
    agent.restart(forget=False)
    agent.policy = NO_RULE
    run = agent.settle(pf.address)
    assert not [late for late in run.plan.deferred if "did not put it there" in late.blocker]


def test_a_vlan_interface_whose_pf_becomes_a_port_stays_and_is_a_problem() -> None:
    kernel, pf = make(Before())
    rule = PfRule(name="rule", match=PfMatch(pci="*"), vlan=(VlanRule(id=10, name="vlan10"),))
    agent = Agent(kernel, Policy(pf=(rule,), digest="read"))
    agent.settle(pf.address)
    assert pf.netdev is not None
    foreign.takes_port(kernel, pf.netdev.name, "bridge")
    run = agent.settle(pf.address)
    assert kernel.links.created["vlan10"].vlan == TAG
    (problem,) = map(str, run.plan.problems)
    assert "is a port of vmbr0, a bridge; vlan10 was there before" in problem
    agent.policy = NO_RULE
    agent.settle(pf.address)
    assert "vlan10" not in kernel.links.created
