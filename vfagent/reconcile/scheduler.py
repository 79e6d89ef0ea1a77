# SPDX-License-Identifier: Apache-2.0
"""Dirty PFs into looks: one worker a card at a time, cards in parallel, with deadlines, back-off and a limit."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from vfagent.kernel.iproute import load
from vfagent.kernel.protocols import Host
from vfagent.kernel.udev import QUEUE
from vfagent.metrics.counters import Counters
from vfagent.model.inventory import pf_in_use
from vfagent.model.pci import PciAddress, card_of
from vfagent.model.status import Phase
from vfagent.policy.match import HostIdentity
from vfagent.policy.types import Policy
from vfagent.process.standby import StandbyWorker
from vfagent.process.worker import Worker
from vfagent.reconcile.log import died, log_observation, log_steps, name_of, not_begun, reverted, stuck
from vfagent.reconcile.observe import DEVICES, udev_pending
from vfagent.reconcile.pf_state import ARRIVAL_S, PfState
from vfagent.reconcile.reports import Finished, Observed, Report
from vfagent.reconcile.rounds import Suspended, Task, converge, warm_up
from vfagent.reconcile.running import ReconcileRun
from vfagent.reconcile.throttle import ThrottledQueue, ThrottledReader
from vfagent.store.state import State

log = logging.getLogger(__name__)

MOST_ATTEMPTS = 8
_LONGEST_DELAY_S = 60.0
_FORGIVEN_AFTER_S = 60.0  # converged for so long, earlier failures no longer count
_DYING_S = 2.0  # between SIGKILL and the verdict that the worker hangs in the kernel
_DEFERRED_S = 30.0  # a holder's end is an event, but one that a host may hide from us (no /dev/vfio in our view)


class Scheduler:
    """Holds the state of every PF; `on_change` is called after each change of it."""

    def __init__(
        self, host: Host, state: State, identity: HostIdentity, policy: Policy, on_change: Callable[[PfState], None]
    ) -> None:
        self.host, self.state, self.identity, self.policy = host, state, identity, policy
        self.on_change = on_change
        self.pfs: dict[PciAddress, PfState] = {}
        self.counters = Counters()
        self.workers = StandbyWorker(lambda task, send: converge(task, host, state, send), lambda: warm_up(host), load)
        self.workers.busy, self.workers.crowded = lambda: self.working, self._crowded
        self._busy: dict[str, ReconcileRun] = {}  # by card
        self._stopping = False
        self.turns = ThrottledQueue(lambda: self.working)

    def set_policy(self, policy: Policy) -> None:
        """Look at every PF with the new policy; what had been given up is tried again."""
        self.policy = policy
        for state in self.pfs.values():
            state.outdated = state.known
            state.attempts, state.suspended, state.failures = 0, None, state.failures if state.stuck else ()
            state.repairs.clear()
            if state.pf and not pf_in_use(state.pf):
                state.driver_state = replace(state.driver_state, most_vfs=None)  # it may make more by now
            state.cancel_timer()
            self.mark_dirty(state.address, now=True)

    def mark_dirty(self, address: PciAddress, *, now: bool = False) -> None:
        """Look at this PF soon: at once when it was left in peace until now, else when the burst is over.

        A PF that is new is on its way still, from its driver to its netdev: its last event asks for a look `now`.
        """
        state = self.pfs.get(address) or PfState(address, driver_state=self.state.driver_state(address))
        self.pfs[address] = state
        self.counters.asked(again=state.dirty)
        state.dirty, state.urgent = True, state.urgent or now
        state.asked_at = state.asked_at or time.monotonic()
        if state.stuck or state.reconciling or (state.failures and not state.suspended and state.timer and not now):
            return
        time_now = asyncio.get_running_loop().time()
        delay = state.delay_s(time_now)
        if state.timer is None or now or state.timer.when() > time_now + delay:
            self._reconcile_after(state, delay)

    def _reconcile_after(self, state: PfState, delay_s: float) -> None:
        state.cancel_timer()
        state.timer = asyncio.get_running_loop().call_later(delay_s, self._begin, state)

    def _begin(self, state: PfState) -> None:
        state.timer = None
        if self._stopping or state.reconciling or state.stuck or not state.dirty:
            return
        if card_of(state.address) in self._busy:
            return  # its turn comes when the card's other PF is done
        if not state.known and udev_pending(self.host, state.address) and state.put_off():
            self.on_change(state)
            self.workers.renew_now()  # it will be wanted, and there is nothing else to do
            self._reconcile_after(state, ARRIVAL_S)
            return
        if self._crowded() and state.can_wait() and self.host.sysfs.exists(f"{DEVICES}/{state.address}"):
            self._reconcile_after(state, ARRIVAL_S)
            return
        if state.released != (released := state.address in self.state.released()):
            state.released = released
            self.on_change(state)
        state.dirty, state.urgent, state.reconciling = False, False, True
        suspended = state.suspended or Suspended()
        task = Task(
            state.address, self.policy, self.identity, state.driver_state, dry=state.released, suspended=suspended
        )
        try:
            self._watch(ReconcileRun(state, self.workers.begin(task)))
        except OSError as error:
            self._not_begun(state, error)

    def adopt(self, begun: Mapping[PciAddress, Worker]) -> None:
        """Looks that were begun before there was a loop. Another one follows each, which is not hurried."""
        for address, worker in begun.items():
            self.mark_dirty(address)  # its device may have gone meanwhile
            state = self.pfs[address]
            state.cancel_timer()
            state.reconciling, state.urgent = True, False
            self._watch(ReconcileRun(state, worker))

    def _not_begun(self, state: PfState, error: OSError) -> None:
        """No process or descriptor is to be had now."""
        state.reconciling, state.failures = False, (not_begun(state, error),)
        self._back_off(state)
        self._schedule(state)
        self.on_change(state)

    def _watch(self, look: ReconcileRun) -> None:
        loop = asyncio.get_running_loop()
        self._busy[card_of(look.state.address)] = look
        look.state.reconciled_at = loop.time()
        look.reader = ThrottledReader(lambda: look.worker.reports, lambda: self._read(look), self.turns)
        look.reader.start()
        loop.add_reader(look.worker.pidfd, self._ended, look)
        self._extend(look)

    def _extend(self, look: ReconcileRun) -> None:
        if look.deadline:
            look.deadline.cancel()
        loop = asyncio.get_running_loop()
        look.deadline = loop.call_later(look.state.deadline_s, self._overdue, look)

    def _read(self, look: ReconcileRun) -> None:
        for report in look.worker.read():
            self._take(look, report)
        if not look.killed:
            self._extend(look)

    def _take(self, look: ReconcileRun, report: Report) -> None:
        state = look.state
        look.count(report, self.counters)
        if isinstance(report, Observed):
            log_observation(state, report)
        state.take(report)
        if isinstance(report, Finished):
            log_steps(state)  # together: each line costs a little, and the worker needs the processors now
            look.finished = report
        else:
            self.on_change(state)

    def _overdue(self, look: ReconcileRun) -> None:
        """The worker is silent for too long. If not even SIGKILL ends it, it hangs in the kernel."""
        if not look.killed:
            look.killed = True
            look.worker.kill()
            look.deadline = asyncio.get_running_loop().call_later(_DYING_S, self._overdue, look)
            return
        state = look.state
        state.stuck = True
        state.failures = (stuck(state),)
        log.error("pf %s: stuck: %s", state.address, state.failures[0].text, extra={"VFAGENT_PF": state.address})
        del self._busy[card_of(state.address)]  # the card's other PFs do not wait for it
        self.on_change(state)
        self._next_of_card(state)

    def _ended(self, look: ReconcileRun) -> None:
        loop, state = asyncio.get_running_loop(), look.state
        loop.remove_reader(look.worker.pidfd)
        if look.reader:
            look.reader.stop()
            look.reader = None  # it knows the look: the two would wait for the garbage collector
        for report in look.worker.read():
            self._take(look, report)
        status = look.worker.close()
        if look.deadline:
            look.deadline.cancel()
        if not state.stuck:
            del self._busy[card_of(state.address)]
        state.rest(loop.time())
        state.reconciling = False
        self._conclude(look, status)
        if not self._stopping:
            self._next_of_card(state)

    def _conclude(self, look: ReconcileRun, status: int) -> None:
        state = look.state
        look.measure(self.counters)
        if state.stuck:
            log.info("pf %s: the worker that hung has ended", state.address)
            state.stuck, state.dirty = False, True
        known = state.suspended if look.finished is not None else None
        still_given_up = known is not None and known.covers(state.plan.steps)
        if look.finished is None:
            state.failures = (stuck(state) if look.killed else died(state, status),)
            state.running.clear()
        elif not still_given_up:
            self._settle(look, look.finished)
        if state.failures and not still_given_up:
            self._back_off(state)
        elif state.pf is None:
            self._forget(state)
            return
        self._schedule(state)
        self.on_change(state)

    def _settle(self, look: ReconcileRun, finished: Finished) -> None:
        state = look.state
        state.failures = finished.failures
        repair = look.acted and state.desired is not None and state.converged_as == state.desired
        if repair and not state.failures and (text := state.repaired(time.monotonic())):
            state.failures = (reverted(state, text),)
        if not (state.failures or state.plan.problems):
            state.suspended = None
        for warning in finished.warnings:
            log.warning("%s", warning)
        self._keep_driver_state(state, finished)
        state.waiting_since = (state.waiting_since or time.monotonic()) if state.phase is Phase.WAITING else None
        if state.plan.settled and state.desired is not None:
            if state.converged_as != state.desired:
                log.info("pf %s: converged", name_of(state), extra={"VFAGENT_PF": state.address})
            state.converged_as = state.desired
            if time.monotonic() - state.failed_at > _FORGIVEN_AFTER_S:
                state.attempts = 0

    def _keep_driver_state(self, state: PfState, finished: Finished) -> None:
        try:
            if finished.driver_state != self.state.driver_state(state.address):
                self.state.keep_driver_state(state.address, finished.driver_state)
        except OSError as error:
            log.warning("pf %s: cannot store what was learnt of it: %s", state.address, error.strerror)

    def _back_off(self, state: PfState) -> None:
        state.attempts += 1
        state.failed_at = time.monotonic()
        # Of a card that is pulled out whatever is under way fails; so it is told as an error when it fails once more.
        first = state.attempts == 1 and all(failure.retryable for failure in state.failures)
        for failure in state.failures:
            hint = f" ({failure.hint})" if failure.hint else ""
            fields = {"VFAGENT_PF": state.address, "VFAGENT_STEP": failure.step}
            log.log(logging.INFO if first else logging.ERROR, "%s%s", failure.text, hint, extra=fields)
        retryable = any(failure.retryable or failure.refused for failure in state.failures)
        if state.attempts >= MOST_ATTEMPTS or not retryable:
            state.suspended = Suspended(state.remaining, state.plan.steps or state.tried)
            log.error(
                "pf %s: given up after %d attempts, until it, or the policy, changes", name_of(state), state.attempts
            )

    def _schedule(self, state: PfState) -> None:
        if state.failures and not state.suspended:
            state.dirty = True
            self._reconcile_after(state, min(2.0 ** min(state.attempts - 1, 10), _LONGEST_DELAY_S))
        elif state.dirty:
            self._reconcile_after(state, 0.0 if state.pending else state.delay_s(asyncio.get_running_loop().time()))
        elif state.plan.deferred:
            state.dirty = True
            self._reconcile_after(state, _DEFERRED_S)

    def _forget(self, state: PfState) -> None:
        if state.seen:  # not once more for the events that its end leaves behind
            log.info("pf %s: gone", state.address, extra={"VFAGENT_PF": state.address})
        del self.pfs[state.address]
        self.on_change(state)
        if state.dirty:
            self.mark_dirty(state.address)

    def _next_of_card(self, done: PfState) -> None:
        for state in list(self.pfs.values()):
            if state.dirty and state.timer is None and card_of(state.address) == card_of(done.address):
                self._begin(state)

    def _crowded(self) -> bool:
        """Whether udev is at work: at a boot it needs every processor, and guests wait for it to come to their VFs."""
        return self.host.sysfs.exists(QUEUE)

    @property
    def idle(self) -> bool:
        """Nothing is running, or about to."""
        soon = any(state.dirty and not state.stuck and not state.plan.deferred for state in self.pfs.values())
        return not self._busy and not soon

    def stop(self) -> None:
        """Begin nothing more. What runs reaches the end of its step, then finds nobody to report to."""
        self._stopping = True
        self.workers.stop()
        for state in self.pfs.values():
            state.cancel_timer()

    @property
    def working(self) -> bool:
        return bool(self._busy)
