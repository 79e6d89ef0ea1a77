# SPDX-License-Identifier: Apache-2.0
"""Every host that somebody else set up is adopted by `init`, or the rule is a comment: vfagent changes nothing."""

from hypothesis import given
from hypothesis import strategies as st

from tests.model import ledger
from tests.model.agent import IDENTITY, Agent
from tests.model.budget import examples
from tests.model.devices import PfDevice
from tests.model.drivers import IGB
from tests.model.facts import pf_facts
from tests.model.hosts import Card, Port, cards, make_host, ports
from tests.model.kernel import Kernel
from tests.model.policies import policies, policy_of
from tests.model.process import Process
from tests.model.stored import MemoryState
from vfagent.cli.init import policy_lines
from vfagent.kernel.protocols import Host
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Pf
from vfagent.plan.adopt import Draft, adopt
from vfagent.plan.planner import Plan
from vfagent.policy.types import Policy, VfRule
from vfagent.reconcile.observe import observe_pf
from vfagent.reconcile.rounds import Task, observe_and_plan
from vfagent.store.policy_files import load_text


def adopted(kernel: Kernel) -> tuple[tuple[Draft, ...], Policy]:
    """The drafts of `init`, and its text as the reader reads it."""
    hosts = {pf.address: Process(kernel, pf.address).host() for pf in kernel.present()}
    pfs = [pf for address, host in hosts.items() if (pf := observe_pf(host, address))]
    drafts = adopt(pfs, IDENTITY, {}, lambda policy, pf: _plan(hosts[pf.address], policy, pf))
    return drafts, load_text("init", "\n".join(policy_lines(drafts)))


def _plan(host: Host, policy: Policy, pf: Pf) -> Plan:
    task = Task(pf.address, policy, IDENTITY, dry=True, grace_over=True)
    return observe_and_plan(task, host, MemoryState(), DriverState()).plan


def set_up(kernel: Kernel, policy: Policy) -> None:
    """By somebody else, whose state vfagent does not know."""
    kernel.let_time_pass()
    agent = Agent(kernel, policy)
    for pf in kernel.present():
        agent.settle(pf.address)
    kernel.let_time_pass()


def check_unchanged(kernel: Kernel, policy: Policy) -> None:
    agent = Agent(kernel, policy)
    for pf in kernel.present():
        before = pf_facts(pf)
        run = agent.converge(pf.address, grace_over=True)
        assert run.done == []
        assert run.plan.settled
        assert pf_facts(pf) == before


@given(host=cards(ports()), policy=policies())
@examples(150)
def test_with_the_policy_of_init_nothing_changes(*, host: tuple[Card, ...], policy: Policy) -> None:
    ledger.counted["histories"] += 1
    kernel = make_host(*host)
    set_up(kernel, policy)
    _, written = adopted(kernel)
    check_unchanged(kernel, written)


@given(vfs=st.integers(1, 4), autoprobe=st.booleans())
@examples(20)
def test_a_port_with_vfs_is_adopted_with_all_that_it_shows(*, vfs: int, autoprobe: bool) -> None:
    kernel = make_host((Port(IGB),))
    (pf,) = kernel.present()
    set_up(kernel, policy_of(vfs, VfRule(driver="vfio-pci", mac="52:54:00:bb:00:{index:02x}", vlan=10, trust=True)))
    pf.autoprobe = autoprobe
    (draft,), policy = adopted(kernel)
    assert (draft.adopted, draft.comments) == (True, ())
    check_unchanged(kernel, policy)
    _made_anew(kernel, pf, policy)


def _made_anew(kernel: Kernel, pf: PfDevice, policy: Policy) -> None:
    """After a boot vfagent makes the same VFs."""
    before = pf_facts(pf).vfs
    kernel.write_numvfs(pf, "0")
    Agent(kernel, policy).settle(pf.address)
    assert pf_facts(pf).vfs == before
