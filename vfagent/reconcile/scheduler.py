# SPDX-License-Identifier: Apache-2.0
"""Dirty PFs are reconciled: one worker per card, cards in parallel, with deadlines, back-off and a limit."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from vfagent.kernel.iproute import load
from vfagent.kernel.protocols import Host
from vfagent.kernel.udev import QUEUE
from vfagent.metrics.counters import Counters
from vfagent.model.pci import PciAddress
from vfagent.model.status import MOST_ATTEMPTS, Phase
from vfagent.model.vf_use import pf_in_use
from vfagent.policy.match import HostIdentity
from vfagent.policy.types import Policy
from vfagent.process.standby import StandbyWorker
from vfagent.process.worker import Worker
from vfagent.process.workers import Workers
from vfagent.reconcile.log import (
    log_observed,
    log_steps,
    log_waits,
    no_answer,
    no_worker,
    pf_log,
    reverted,
    worker_died,
)
from vfagent.reconcile.observe import DEVICES, observe_card, udev_pending
from vfagent.reconcile.pf_state import ARRIVAL_S, REFUSED_S, PfState
from vfagent.reconcile.reports import Finished, Observed, Report, Waits
from vfagent.reconcile.rounds import Suspended, Task, converge, warm_up
from vfagent.reconcile.running import ReconcileRun
from vfagent.reconcile.throttle import ThrottledQueue, ThrottledReader
from vfagent.store.state import State
from vfagent.systemd.messages import Message

_LONGEST_DELAY_S = 60.0
_FORGIVEN_AFTER_S = 60.0  # converged for so long, earlier failures no longer count
_DYING_S = 2.0  # after SIGKILL; then the worker hangs in the kernel
_BUSY_S = 30.0  # for a kernel that hangs in a step of another PF, and whose end no event tells
_UDEV_LIMIT_S = 110.0  # the grace for a netdev is so much longer while udev is busy
_DEFERRED_S = 30.0  # a user's end is an event, but one that a host may hide from us (no /dev/vfio in our view)


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
        self.host, self.state, self.identity, self.policy = host, state, identity, policy
        self.on_change = on_change
        self.pfs: dict[PciAddress, PfState] = {}
        self.counters = Counters()
        self.workers = StandbyWorker(
            workers, lambda task, send: converge(task, host, state, send), lambda: warm_up(host), load
        )
        self.workers.busy, self.workers.crowded = lambda: self.working, self._udev_busy
        self._runs: dict[str, ReconcileRun] = {}  # by card
        self._stopping = False
        self.turns = ThrottledQueue(lambda: self.working)

    def set_policy(self, policy: Policy) -> None:
        """Reconcile every PF by the new policy. What was suspended is tried again."""
        self.policy = policy
        for state in self.pfs.values():
            state.outdated = state.known
            state.attempts, state.suspended, state.failures = 0, None, state.failures if state.stuck else ()
            state.repairs.clear()
            self._end_wait(state)
            state.driver_state = state.driver_state.without_refusals()
            if state.pf and not pf_in_use(state.pf):
                state.driver_state = replace(state.driver_state, most_vfs=None)  # it may make more by now
            state.cancel_timer()
            self.mark_dirty(state.address, now=True)

    def mark_dirty(self, address: PciAddress, *, now: bool = False) -> None:
        """Reconcile this PF soon: at once if it was quiet until now, else when the burst of events is over.

        A new PF is not complete until its driver has made its netdev: its last event asks for a reconcile `now`.
        """
        state = self.pfs.get(address) or PfState(address, driver_state=self.state.driver_state(address))
        self.pfs[address] = state
        self.counters.asked(again=state.dirty)
        state.dirty, state.urgent = True, state.urgent or now
        state.asked_at = state.asked_at or time.monotonic()
        if state.kernel_busy and not self.host.sysfs.exists(f"{DEVICES}/{address}"):
            self._end_wait(state)  # it was pulled out
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
        state.card = observe_card(self.host, state.address)
        if state.card in self._runs:
            return  # it follows when the card's other PF is done
        if not state.known and udev_pending(self.host, state.address) and state.put_off():
            self.on_change(state)
            self.workers.renew_now()  # one will be needed, and there is nothing else to do
            self._reconcile_after(state, ARRIVAL_S)
            return
        if self._udev_busy() and state.can_wait() and self.host.sysfs.exists(f"{DEVICES}/{state.address}"):
            self._reconcile_after(state, ARRIVAL_S)
            return
        if state.released != (released := state.address in self.state.released()):
            state.released = released
            self.on_change(state)
        state.dirty, state.urgent, state.reconciling = False, False, True
        state.try_refused_again(asyncio.get_running_loop().time())
        suspended = state.suspended or Suspended()
        task = Task(
            state.address,
            self.policy,
            self.identity,
            state.driver_state,
            dry=state.released,
            suspended=suspended,
            grace_over=state.grace_over,
        )
        try:
            self._watch(ReconcileRun(state, self.workers.begin(task)))
        except OSError as error:
            state.reconciling, state.failures = False, (no_worker(state, error),)
            self._back_off(state)
            self._schedule(state)
            self.on_change(state)

    def adopt(self, begun: Mapping[PciAddress, Worker]) -> None:
        """Take over workers that were started before there was a loop. Another reconcile follows each of them."""
        for address, worker in begun.items():
            self.mark_dirty(address)  # its device may have gone meanwhile
            state = self.pfs[address]
            state.card = observe_card(self.host, address)
            state.cancel_timer()
            state.reconciling, state.urgent = True, False
            self._watch(ReconcileRun(state, worker))

    def _watch(self, run: ReconcileRun) -> None:
        loop = asyncio.get_running_loop()
        self._runs[run.state.card] = run
        run.state.reconciled_at = loop.time()
        run.reader = ThrottledReader(lambda: run.worker.reports, lambda: self._read(run), self.turns)
        run.reader.start()
        loop.add_reader(run.worker.pidfd, self._ended, run)
        self._extend(run)

    def _extend(self, run: ReconcileRun) -> None:
        if run.deadline:
            run.deadline.cancel()
        run.deadline = asyncio.get_running_loop().call_later(run.state.deadline_s, self._overdue, run)

    def _read(self, run: ReconcileRun) -> None:
        for report in run.worker.read():
            self._take(run, report)
        if not run.killed:
            self._extend(run)

    def _take(self, run: ReconcileRun, report: Report) -> None:
        state = run.state
        run.count(report, self.counters)
        if isinstance(report, Observed):
            log_observed(state, report)
        elif isinstance(report, Waits):
            log_waits(state, report.busy)
        state.take(report)
        if isinstance(report, Finished):
            log_steps(state)  # together: each line costs a little, and the worker needs the processors now
            run.finished = report
        else:
            self.on_change(state)

    def _overdue(self, run: ReconcileRun) -> None:
        """The worker is silent for too long. If SIGKILL does not end it either, it hangs in the kernel."""
        if not run.killed:
            self._kill(run)
            return
        state = run.state
        state.stuck, run.abandoned = True, False
        state.failures = (no_answer(state),)
        pf_log(state, step=state.failures[0].step).of(Message.STUCK).error("stuck: %s", state.failures[0].text)
        del self._runs[state.card]  # the card's other PFs do not wait for it
        self.on_change(state)
        self._next_of_card(state)

    def _kill(self, run: ReconcileRun) -> None:
        run.killed = True
        run.worker.kill()
        if run.deadline:
            run.deadline.cancel()
        run.deadline = asyncio.get_running_loop().call_later(_DYING_S, self._overdue, run)

    def _ended(self, run: ReconcileRun) -> None:
        loop, state = asyncio.get_running_loop(), run.state
        loop.remove_reader(run.worker.pidfd)
        if run.reader:
            run.reader.stop()
            run.reader = None  # it refers to the run: the two would wait for the garbage collector
        for report in run.worker.read():
            self._take(run, report)
        status = run.worker.close()
        if run.deadline:
            run.deadline.cancel()
        if not state.stuck:
            del self._runs[state.card]
        state.rest(loop.time())
        state.reconciling = False
        self._conclude(run, status)
        if not self._stopping:
            self._next_of_card(state)

    def _conclude(self, run: ReconcileRun, status: int) -> None:
        state = run.state
        run.measure(self.counters)
        if state.stuck:
            pf_log(state).info("the stuck worker has ended")
            state.stuck, state.dirty = False, True
            self._wake_waiting()
        known = state.suspended if run.finished is not None else None
        still_suspended = known is not None and known.covers(state.plan.steps)
        if run.finished is None and run.abandoned:
            state.dirty = True
        elif run.finished is None:
            state.kernel_busy = None
            state.failures = (no_answer(state) if run.killed else worker_died(state, status),)
            state.running.clear()
        elif not still_suspended:
            self._settle(run, run.finished)
        if state.failures and not still_suspended:
            self._back_off(state)
        elif state.pf is None:
            self._forget(state)
            return
        self._schedule(state)
        self.on_change(state)

    def _settle(self, run: ReconcileRun, finished: Finished) -> None:
        state = run.state
        state.failures = tuple(failure for failure in finished.failures if not failure.busy)
        if busy := next((failure.busy for failure in finished.failures if failure.busy), None):
            log_waits(state, busy)
        state.kernel_busy = busy
        repair = run.acted and state.desired is not None and state.converged_as == state.desired
        if repair and not state.failures and (step := state.repaired(time.monotonic())):
            state.failures = (reverted(state, step),)
        if not (state.failures or state.plan.problems):
            state.suspended = None
        state.note_refusals(asyncio.get_running_loop().time())
        for warning in finished.warnings:
            pf_log(state).warning("%s", warning)
        try:
            if finished.driver_state != self.state.driver_state(state.address):
                self.state.keep_driver_state(state.address, finished.driver_state)
        except OSError as error:
            pf_log(state).warning("cannot store the driver state: %s", error.strerror)
        state.waiting_since = (state.waiting_since or time.monotonic()) if state.phase is Phase.WAITING else None
        if state.plan.settled and state.desired is not None:
            if state.converged_as != state.desired:
                pf_log(state).of(Message.CONVERGED).info("converged")
            state.converged_as = state.desired
            if time.monotonic() - state.failed_at > _FORGIVEN_AFTER_S:
                state.attempts = 0

    def _back_off(self, state: PfState) -> None:
        state.attempts += 1
        state.failed_at = time.monotonic()
        # When a card is pulled out, whatever is running fails. So a failure is an error when it comes again.
        first = state.attempts == 1 and all(failure.retryable for failure in state.failures)
        for failure in state.failures:
            hint = f" ({failure.hint})" if failure.hint else ""
            text = failure.text.removeprefix(f"{state.address}: ")
            pf_log(state, step=failure.step).log(logging.INFO if first else logging.ERROR, "%s%s", text, hint)
        retryable = any(failure.retryable or failure.refused for failure in state.failures)
        if state.attempts >= MOST_ATTEMPTS or not retryable:
            state.suspended = Suspended(state.remaining, state.plan.steps or state.tried)
            text = "suspended after %d attempts, until the PF or the policy changes"
            pf_log(state).of(Message.SUSPENDED).error(text, state.attempts)

    def _schedule(self, state: PfState) -> None:
        now = asyncio.get_running_loop().time()
        self._arm_grace(state, state.note_grace(now))
        self._schedule_next(state)
        retry = state.timer.when() if state.timer and state.failures and not state.suspended else None
        due = retry or state.grace_ends
        state.deadline = due and float(round(time.time() + due - now))

    def _schedule_next(self, state: PfState) -> None:
        if state.failures and not state.suspended:
            state.dirty = True
            self._reconcile_after(state, min(2.0 ** min(state.attempts - 1, 10), _LONGEST_DELAY_S))
        elif state.dirty:
            self._reconcile_after(state, 0.0 if state.pending else state.delay_s(asyncio.get_running_loop().time()))
        elif state.kernel_busy or state.unreadable:
            state.dirty = True
            self._reconcile_after(state, _BUSY_S)
        elif state.plan.deferred or state.refused:
            state.dirty = True
            self._reconcile_after(state, _DEFERRED_S if state.plan.deferred else REFUSED_S)

    def _arm_grace(self, state: PfState, ends: float | None) -> None:
        timer = (
            asyncio.get_running_loop().call_at(ends, self._end_grace, state) if ends and not self._stopping else None
        )
        state.set_grace_timer(timer)

    def _end_grace(self, state: PfState) -> None:
        """Reconcile it without its netdev; later, while udev has events: these may load a module that makes it."""
        now = asyncio.get_running_loop().time()
        if self._udev_busy() and state.grace_ends and now < state.grace_ends + _UDEV_LIMIT_S:
            self._arm_grace(state, now + ARRIVAL_S)
            return
        state.grace_over = True
        self.mark_dirty(state.address, now=True)

    def _end_wait(self, state: PfState) -> None:
        """End the worker of a PF that waits for its turn: by the present policy it may want something else."""
        run = self._runs.get(state.card)
        if run and run.state is state and state.kernel_busy and not (state.running or run.killed):
            run.abandoned = True
            self._kill(run)

    def _wake_waiting(self) -> None:
        """The kernel has returned from a step that hung: others may do theirs."""
        for state in self.pfs.values():
            if state.kernel_busy:
                self.mark_dirty(state.address, now=True)

    def _forget(self, state: PfState) -> None:
        if state.seen:  # not once more for the events that its removal leaves behind
            pf_log(state).info("gone")
        state.set_grace_timer(None)
        del self.pfs[state.address]
        self.on_change(state)
        if state.dirty:
            self.mark_dirty(state.address)

    def _next_of_card(self, done: PfState) -> None:
        for state in list(self.pfs.values()):
            if state.dirty and state.timer is None and state.card == done.card:
                self._begin(state)

    def _udev_busy(self) -> bool:
        """Whether udev has events to handle: at boot it needs every processor, and guests wait for it."""
        return self.host.sysfs.exists(QUEUE)

    @property
    def idle(self) -> bool:
        """Nothing is running, or about to."""
        soon = any(
            state.dirty and not (state.stuck or state.plan.deferred or state.refused or state.unreadable)
            for state in self.pfs.values()
        )
        return not self._runs and not soon

    def stop(self) -> None:
        """Begin nothing more. What runs reaches the end of its step, then finds nobody to report to."""
        self._stopping = True
        self.workers.stop()
        for state in self.pfs.values():
            state.cancel_timer()
            state.set_grace_timer(None)
            self._end_wait(state)

    @property
    def working(self) -> bool:
        return bool(self._runs)
