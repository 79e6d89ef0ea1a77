# SPDX-License-Identifier: Apache-2.0
"""Dirty PFs are reconciled: the PFs of a card one after the other, cards in parallel."""

import asyncio
from collections.abc import Callable, Mapping

from vfagent.kernel.iproute import load
from vfagent.kernel.protocols import Host
from vfagent.metrics.counters import Counters
from vfagent.model.pci import PciAddress
from vfagent.policy.match import HostIdentity
from vfagent.policy.types import Policy
from vfagent.process.standby import StandbyWorker
from vfagent.process.worker import Worker
from vfagent.process.workers import Workers
from vfagent.reconcile.card import Card, Context
from vfagent.reconcile.observe import observe_card
from vfagent.reconcile.pf_state import PfState
from vfagent.reconcile.rounds import converge, warm_up
from vfagent.store.state import State


class Scheduler:
    """Holds the state of every PF. `on_change` is called after each change of it."""

    def __init__(
        self,
        host: Host,
        state: State,
        identity: HostIdentity,
        policy: Policy,
        workers: Workers,
        on_change: Callable[[PfState], None],
    ) -> None:
        self.host, self.identity, self.workers = host, identity, workers
        self.pfs: dict[PciAddress, PfState] = {}
        self._cards: dict[str, Card] = {}
        self._card_of: dict[PciAddress, Card] = {}
        self.standby = StandbyWorker(
            workers,
            lambda task, send: converge(task, host, state, send),
            lambda: warm_up(host),
            load,
            busy=lambda: self.working,
            crowded=lambda: self._context.udev_busy(),
        )
        self._context = Context(
            host, state, identity, policy, workers, self.standby, on_change, self._forget, self._wake_waiting
        )

    @property
    def policy(self) -> Policy:
        return self._context.policy

    @property
    def counters(self) -> Counters:
        return self._context.counters

    def set_policy(self, policy: Policy) -> None:
        """Reconcile every PF by the new policy. What was suspended is tried again."""
        self._context.policy = policy
        for state in self.pfs.values():
            state.renew()
            self._card_of[state.address].end_wait(state)
            self.mark_dirty(state.address, now=True)

    def mark_dirty(self, address: PciAddress, *, now: bool = False) -> None:
        """Reconcile this PF soon.

        A new PF is not complete until its driver has made its netdev: its last event asks for a reconcile `now`.
        """
        self._card(address).ask(self.pfs[address], now=now)

    def _card(self, address: PciAddress) -> Card:
        """The PF's card. A new PF gets its state."""
        if address not in self.pfs:
            name = observe_card(self.host, address)
            self._card_of[address] = card = self._cards.get(name) or Card(self._context)
            self._cards[name] = card
            state = PfState(address, driver_state=self._context.store.driver_state(address))
            self.pfs[address] = card.pfs[address] = state
        return self._card_of[address]

    def adopt(self, begun: Mapping[PciAddress, Worker]) -> None:
        """Take over workers that were started before there was a loop. Another reconcile follows each of them."""
        for address, worker in begun.items():
            self.mark_dirty(address)  # its device may have gone meanwhile
            self._card_of[address].adopt(self.pfs[address], worker)

    def _wake_waiting(self) -> None:
        for state in self.pfs.values():
            if state.kernel_busy:
                self.mark_dirty(state.address, now=True)

    def _forget(self, state: PfState) -> None:
        del self.pfs[state.address]
        del self._card_of.pop(state.address).pfs[state.address]
        self._context.on_change(state)
        if state.request.dirty:
            self.mark_dirty(state.address)

    @property
    def idle(self) -> bool:
        """Nothing is running, or about to."""
        soon = any(
            state.request.dirty and not (state.stuck or state.plan.deferred or state.refused or state.unreadable)
            for state in self.pfs.values()
        )
        return not self.working and not soon

    @property
    def working(self) -> bool:
        return any(card.working for card in self._cards.values())

    async def stop(self, within_s: float) -> None:
        """Begin nothing more, and wait for the steps that run."""
        self._context.stopping = True
        self.standby.stop()
        for card in self._cards.values():
            card.stop()
        if self._cards:
            await asyncio.wait({card.task for card in self._cards.values()}, timeout=within_s)
