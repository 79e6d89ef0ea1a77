# SPDX-License-Identifier: Apache-2.0
"""Histories: vfagent, its restarts, guests, other programs, the administrator and the hardware, in any order."""

import errno

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.model import foreign, ledger
from tests.model.agent import Agent
from tests.model.budget import examples
from tests.model.devices import Groups, PfDevice, VfDevice
from tests.model.drivers import ALL, DRIVERS, LOSING, NEEDS_UP, QAT, SILENT, STARTING
from tests.model.effects import Effect
from tests.model.groups_in_turn import GroupInTurn
from tests.model.hosts import Card, cards, make_host, ports
from tests.model.policies import policies
from tests.model.process import Kill
from tests.model.test_converge import check_ready, check_settled
from tests.model.test_vf_users import USES, use_vf
from vfagent.errors import VfagentError
from vfagent.policy.types import Policy

# A change by another program of what the driver does not report stays unnoticed.
KINDS = (*(kind for kind in DRIVERS if kind is not SILENT), ALL, QAT, NEEDS_UP, STARTING, LOSING)
NUMBERS = st.integers(0, 9)
CONCURRENT = ("unplugs", "resets", "unbinds", "sets a VLAN")


class Histories(RuleBasedStateMachine):
    """Each effect is checked when it is made; at the end no VF is in use any more, and each PF converges."""

    @initialize(
        host=cards(ports(KINDS, cable=(True, False), groups=(Groups.OWN, Groups.NONE, Groups.WITH_PF))),
        policy=policies(),
        late=st.booleans(),
        early_groups=st.booleans(),
        one_card=st.booleans(),
    )
    def begin(self, *, host: tuple[Card, ...], policy: Policy, late: bool, early_groups: bool, one_card: bool) -> None:
        ledger.counted["histories"] += 1
        GroupInTurn.early = early_groups
        self.kernel = make_host(*host, late_netdevs=late)
        self.kernel.one_card = one_card
        self.agent = Agent(self.kernel, policy)

    def pf(self, number: int) -> PfDevice:
        pfs = list(self.kernel.pfs.values())
        return pfs[number % len(pfs)]

    def vf(self, number: int) -> VfDevice | None:
        vfs = [vf for _, vf in self.kernel.pf_vfs()]
        return vfs[number % len(vfs)] if vfs else None

    @rule()
    def agent_reconciles_all_pfs(self) -> None:
        for address, run in self.agent.converge_all().items():
            check_ready(self.kernel.pfs[address], run)

    @rule(number=NUMBERS, at=st.integers(0, 20), after=st.booleans(), forget=st.booleans())
    def agent_is_killed(self, number: int, at: int, *, after: bool, forget: bool) -> None:
        self.agent.converge(self.pf(number).address, kill=Kill(at, after))
        self.agent.restart(forget=forget)

    @rule(number=NUMBERS, at=st.integers(0, 12), failure=st.sampled_from((errno.EBUSY, errno.EIO, errno.EAGAIN)))
    def kernel_call_fails_once(self, number: int, at: int, failure: int) -> None:
        def fault(at_now: int, effect: Effect) -> int:
            return failure if at_now == at else 0

        self.agent.converge(self.pf(number).address, fault=fault)

    @rule(number=NUMBERS, at=st.integers(0, 20), index=NUMBERS, what=st.sampled_from(CONCURRENT))
    def another_program_acts_during_a_reconcile(self, number: int, at: int, index: int, what: str) -> None:
        """Right before an effect is executed, so that the effect before it can be reverted at once."""
        pf = self.pf(number)

        def concurrent(at_now: int, effect: Effect) -> int:
            if at_now == at and pf.plugged:
                self.act(pf, index, what)
            return 0

        self.agent.converge(pf.address, fault=concurrent, alone=False)

    def act(self, pf: PfDevice, index: int, what: str) -> None:
        vf = pf.vfs[index % len(pf.vfs)] if pf.vfs else None
        match what:
            case "unplugs":
                foreign.unplugs(self.kernel, pf)
            case "resets":
                foreign.resets(pf)
            case "unbinds" if vf:
                foreign.unbinds(self.kernel, vf)
            case "sets a VLAN" if vf:
                foreign.sets_vlan(vf, 7)

    @rule(number=NUMBERS)
    def a_write_of_numvfs_hangs(self, number: int) -> None:
        """Another process's, or that of a worker which SIGKILL does not end: its PF is not reconciled meanwhile."""
        self.kernel.writer = self.pf(number).address if self.pf(number).plugged else None

    @rule()
    def it_returns(self) -> None:
        self.kernel.writer = None

    @rule(policy=policies())
    def policy_changes(self, policy: Policy) -> None:
        self.agent.policy = policy

    @rule(number=NUMBERS)
    def agent_releases(self, number: int) -> None:
        if self.kernel.writer == self.pf(number).address:
            return
        try:
            self.agent.release(self.pf(number).address)
        except VfagentError:
            return

    @rule(number=NUMBERS, how=st.sampled_from(USES))
    def another_program_opens_a_vf(self, number: int, how: str) -> None:
        if vf := self.vf(number):
            use_vf(self.kernel, vf, how)

    @rule(number=NUMBERS)
    def another_program_binds_a_variant(self, number: int) -> None:
        if vf := self.vf(number):
            foreign.binds_variant(self.kernel, self.kernel.pf_of(vf), vf)

    @rule()
    def all_use_ends(self) -> None:
        foreign.stops_all_use(self.kernel)

    @rule(number=NUMBERS, vlan=st.sampled_from((0, 7)))
    def another_program_sets_a_vlan(self, number: int, vlan: int) -> None:
        if vf := self.vf(number):
            foreign.sets_vlan(vf, vlan)

    @rule(number=NUMBERS)
    def another_program_unbinds_a_vf(self, number: int) -> None:
        if vf := self.vf(number):
            foreign.unbinds(self.kernel, vf)

    @rule(number=NUMBERS, count=st.integers(0, 4))
    def another_program_sets_numvfs(self, number: int, count: int) -> None:
        if self.pf(number).plugged:
            foreign.sets_numvfs(self.kernel, self.pf(number), count)

    @rule(number=NUMBERS, on=st.booleans())
    def another_program_sets_autoprobe(self, number: int, *, on: bool) -> None:
        foreign.sets_autoprobe(self.pf(number), on=on)

    @rule(number=NUMBERS)
    def another_program_sets_a_pf_down(self, number: int) -> None:
        foreign.sets_down(self.pf(number))

    @rule(number=NUMBERS)
    def card_is_removed_or_inserted(self, number: int) -> None:
        pf = self.pf(number)
        if pf.plugged:
            foreign.unplugs(self.kernel, pf)
        else:
            foreign.replugs(self.kernel, pf)

    @rule(number=NUMBERS)
    def card_is_reset(self, number: int) -> None:
        foreign.resets(self.pf(number))

    @rule(number=NUMBERS, cable=st.booleans())
    def cable_is_inserted_or_removed(self, number: int, *, cable: bool) -> None:
        if netdev := self.pf(number).netdev:
            netdev.cable = cable

    @rule(number=NUMBERS)
    def driver_has_started(self, number: int) -> None:
        self.pf(number).starting = False

    @rule()
    def ten_minutes_pass(self) -> None:
        for pf in self.kernel.present():
            self.agent.ten_minutes_pass(pf.address)

    @rule()
    def time_passes(self) -> None:
        self.kernel.let_time_pass()

    def teardown(self) -> None:
        if not hasattr(self, "agent"):
            return
        self.kernel.writer = None
        foreign.stops_all_use(self.kernel)
        for pf in self.kernel.present():
            pf.starting = False
            self.agent.ten_minutes_pass(pf.address)
            self.agent.settle(pf.address)
            self.kernel.let_time_pass()
            check_settled(self.agent, pf, self.agent.settle(pf.address))
        GroupInTurn.early = True


TestHistories = Histories.TestCase
TestHistories.settings = examples(120)
