# SPDX-License-Identifier: Apache-2.0
"""The PFs of one card, reconciled one after the other by one coroutine, with deadlines, back-off and a limit.

Drivers keep state per card (i40e: "other operation is pending").
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from vfagent.kernel.protocols import Host
from vfagent.kernel.udev import QUEUE
from vfagent.metrics.counters import Counters
from vfagent.model.pci import PciAddress
from vfagent.model.status import MOST_ATTEMPTS, Phase
from vfagent.policy.match import HostIdentity
from vfagent.policy.types import Policy
from vfagent.process.standby import StandbyWorker
from vfagent.process.worker import NoAnswerError, Worker
from vfagent.process.workers import StuckError, Workers
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
from vfagent.reconcile.observe import DEVICES, udev_pending
from vfagent.reconcile.pf_state import REFUSED_S, Grace, PfState, Retries, Work
from vfagent.reconcile.reports import Finished, Observed, Report, Waits
from vfagent.reconcile.requests import ARRIVAL_S
from vfagent.reconcile.rounds import Suspended, Task
from vfagent.reconcile.running import ReconcileRun
from vfagent.store.state import State
from vfagent.systemd.messages import Message

_LONGEST_DELAY_S = 60.0
_FORGIVEN_AFTER_S = 60.0  # converged for so long, earlier failures no longer count
_BUSY_S = 30.0  # for a kernel that hangs in a step of another PF, and whose end no event tells
_UDEV_LIMIT_S = 110.0  # the grace for a netdev is so much longer while udev is busy
_DEFERRED_S = 30.0  # a user's end is an event, but one that a host may hide from us (no /dev/vfio in our view)
_BUG_S = 60.0


@dataclass(slots=True)
class Context:
    """What all cards share. `on_change` is called after each change of a PF's state, `forget` when it is gone, and
    `returned` when the kernel has returned from a step that hung."""

    host: Host
    store: State
    identity: HostIdentity
    policy: Policy
    workers: Workers
    standby: StandbyWorker
    on_change: Callable[[PfState], None]
    forget: Callable[[PfState], None]
    returned: Callable[[], None]
    counters: Counters = field(default_factory=Counters)
    stopping: bool = False

    def udev_busy(self) -> bool:
        """Whether udev has events to handle: at boot it needs every processor, and guests wait for it."""
        return self.host.sysfs.exists(QUEUE)

    def present(self, address: PciAddress) -> bool:
        return self.host.sysfs.exists(f"{DEVICES}/{address}")


class Card:
    def __init__(self, context: Context) -> None:
        self.pfs: dict[PciAddress, PfState] = {}
        self._context = context
        self._adopted: dict[PciAddress, Worker] = {}
        self._run: ReconcileRun | None = None
        self._loop, self._wake = asyncio.get_running_loop(), asyncio.Event()
        self.task = asyncio.create_task(self._work())

    @property
    def working(self) -> bool:
        return self._run is not None or bool(self._adopted)

    def ask(self, state: PfState, *, now: bool) -> None:
        """Reconcile this PF soon: at once if it was quiet until now, else when the burst of events is over."""
        self._context.counters.asked(again=state.request.dirty)
        state.request.ask(urgent=now)
        if state.kernel_busy and not self._context.present(state.address):
            self.end_wait(state)  # it was pulled out
        waits = state.retries.backing_off and state.request.due is not None and not now
        if not (state.reconciling or waits):
            state.request.due_by(self._loop.time() + self._delay_s(state))
            self._wake.set()

    def adopt(self, state: PfState, worker: Worker) -> None:
        """Take over a worker that was started before there was a loop."""
        self._adopted[state.address] = worker
        state.work, state.request.due = Work.RECONCILING, self._loop.time()
        self._wake.set()

    def end_wait(self, state: PfState) -> None:
        """End the worker of a PF that waits for its turn: by the present policy it may want something else."""
        run = self._run
        if run and run.state is state and state.kernel_busy and not (state.progress.running or run.abandoned):
            run.abandoned = True
            run.worker.kill()

    def stop(self) -> None:
        """Begin nothing more. What runs reaches the end of its step, then finds nobody to report to."""
        if self._run is None:
            self.task.cancel()
        for state in self.pfs.values():
            self.end_wait(state)

    async def _work(self) -> None:
        """Wait until a PF is due, reconcile it, back off."""
        while not self._context.stopping:
            try:
                await self._work_once()
            except Exception as error:
                self._loop.call_exception_handler({"message": "reconcile failed", "exception": error})
                self._recover(self._loop.time())

    async def _work_once(self) -> None:
        self._wake.clear()
        now = self._loop.time()
        for pf in self.pfs.values():
            self._end_grace(pf, now)
        if (state := self._next(now)) is None:
            await self._woken()
        else:
            await self._take_place(state)
            run = None
            try:
                run = self._begin(state)
            finally:
                if run is None:
                    self._context.workers.places.give()
            if run:
                await self._reconcile(run)

    async def _take_place(self, state: PfState) -> None:
        if state.address in self._adopted:
            self._context.workers.places.take_now()
        else:
            await self._context.workers.places.take()

    def _recover(self, now: float) -> None:
        """From what nothing foresaw: the card's PFs are reconciled again, later."""
        for state in self.pfs.values():
            if not state.stuck and (state.reconciling or state.request.is_due(now)):
                state.work = Work.NONE
                state.request.due_again(now + _BUG_S)

    def _next(self, now: float) -> PfState | None:
        """The PF that is due for the longest time. A stuck one is not."""
        due = [state for state in self.pfs.values() if state.request.is_due(now) and not state.stuck]
        return min(due, key=lambda state: state.request.due or now, default=None)

    async def _woken(self) -> None:
        """By a request, or when a PF is due."""
        times = [at for state in self.pfs.values() if not state.stuck for at in (state.request.due, state.grace.check)]
        try:
            async with asyncio.timeout_at(min((at for at in times if at is not None), default=None)):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _begin(self, state: PfState) -> ReconcileRun | None:
        """A worker at the PF. None where the reconcile is put off, or no worker can be started."""
        context, now = self._context, self._loop.time()
        if adopted := self._adopted.pop(state.address, None):
            state.request.begin(now)
            state.request.dirty = True  # still: its device may have gone meanwhile
            return ReconcileRun(state, adopted)
        if self._put_off(state):
            state.request.due, state.request.urgent = now + ARRIVAL_S, False
            return None
        if state.released != (released := state.address in context.store.released()):
            state.released = released
            context.on_change(state)
        # Without a disk for its baseline, this memory alone says so.
        changed = context.store.changed(state.address) or (state.driver_state.changed and not released)
        state.driver_state = replace(state.driver_state, changed=changed)
        state.request.begin(now)
        state.begin(now)
        try:
            return ReconcileRun(state, context.standby.begin(self._task(state)))
        except OSError as error:
            state.work, state.retries = Work.NONE, replace(state.retries, failures=(no_worker(state, error),))
            self._back_off(state)
            self._schedule(state)
            context.on_change(state)
            return None

    def _put_off(self, state: PfState) -> bool:
        """Whether udev has yet to handle the PF, or is busy and the PF can wait."""
        context = self._context
        if not state.known and udev_pending(context.host, state.address) and state.put_off():
            context.on_change(state)
            context.standby.renew_now()  # one will be needed, and there is nothing else to do
            return True
        settled = state.known and state.plan.settled and not state.pending
        return settled and context.udev_busy() and state.request.can_wait() and context.present(state.address)

    def _task(self, state: PfState) -> Task:
        return Task(
            state.address,
            self._context.policy,
            self._context.identity,
            state.driver_state,
            dry=state.released,
            suspended=state.retries.suspended or Suspended(),
            grace_over=state.grace.over,
        )

    async def _reconcile(self, run: ReconcileRun) -> None:
        state, self._run = run.state, run
        try:
            async with aclosing(self._context.workers.stream(run.worker, state.silence_s)) as reports:
                async for report in reports:
                    self._take(run, report)
        except StuckError as error:
            self._stick(run, error)
            return
        except NoAnswerError as error:
            run.failure = no_answer(state) if error.timed_out else worker_died(state, error)
        except Exception:  # nobody takes its reports any more, and another one follows
            run.worker.kill()
            raise
        finally:
            self._run = None
        self._conclude(run)

    def _take(self, run: ReconcileRun, report: Report) -> None:
        if isinstance(report, Observed):
            log_observed(run.state, report)
        elif isinstance(report, Waits):
            log_waits(run.state, report.busy)
        run.take(report, self._context.counters)
        if isinstance(report, Finished):
            log_steps(run.state, run.steps)  # together: each line costs a little, and the worker needs the processors
        else:
            self._context.on_change(run.state)

    def _stick(self, run: ReconcileRun, error: StuckError) -> None:
        """The worker hangs in the kernel. The card's other PFs do not wait for it."""
        state = run.state
        run.failure, run.abandoned = no_answer(state), False
        state.work, state.retries = Work.STUCK, replace(state.retries, failures=(run.failure,))
        pf_log(state, step=run.failure.step).of(Message.STUCK).error("stuck: %s", run.failure.text)
        error.ended.add_done_callback(lambda _: self._returned(run))
        self._context.on_change(state)

    def _returned(self, run: ReconcileRun) -> None:
        """The kernel has returned from a step that hung: others may do theirs."""
        if not self._context.stopping:
            pf_log(run.state).info("the stuck worker has ended")
            run.state.request.dirty = True
            self._conclude(run)
            self._context.returned()
            self._wake.set()

    def _conclude(self, run: ReconcileRun) -> None:
        state, now = run.state, self._loop.time()
        if run.finished is None:
            log_steps(state, run.steps)
        run.measure(self._context.counters)
        state.work = Work.NONE
        state.request.rest(now)
        known = state.retries.suspended if run.finished else None
        still_suspended = known is not None and known.covers(state.plan.steps)
        if run.finished is None and run.abandoned:
            state.request.dirty = True
        elif run.finished is None:
            state.kernel_busy = None
            state.retries = replace(state.retries, failures=(run.failure,) if run.failure else ())
            state.progress.running.clear()
        elif not still_suspended:
            self._settle(run, run.finished)
        if state.retries.failures and not still_suspended:
            self._back_off(state)
        elif state.pf is None:
            self._context.forget(state)
            return
        self._schedule(state)
        self._context.on_change(state)

    def _settle(self, run: ReconcileRun, finished: Finished) -> None:
        state, busy = run.state, next((failure.busy for failure in finished.failures if failure.busy), None)
        if busy:
            log_waits(state, busy)
        state.kernel_busy = busy
        failures = tuple(failure for failure in finished.failures if not failure.busy)
        repair = run.steps and state.desired is not None and state.converged_as == state.desired
        if repair and not failures and (step := state.repaired(time.monotonic())):
            failures = (reverted(state, step),)
        solved = not (failures or state.plan.problems)
        suspended = None if solved else state.retries.suspended
        state.retries = replace(state.retries, failures=failures, suspended=suspended)
        state.note_refusals(self._loop.time())
        for warning in finished.warnings:
            pf_log(state).warning("%s", warning)
        self._store(state, finished)
        state.waiting_since = (state.waiting_since or time.monotonic()) if state.phase is Phase.WAITING else None
        if state.plan.settled and state.desired is not None:
            if state.converged_as != state.desired:
                pf_log(state).of(Message.CONVERGED).info("converged")
            state.converged_as = state.desired
            if time.monotonic() - state.retries.failed_at > _FORGIVEN_AFTER_S:
                state.retries = replace(state.retries, attempts=0)

    def _store(self, state: PfState, finished: Finished) -> None:
        try:
            if finished.driver_state != self._context.store.driver_state(state.address):
                self._context.store.keep_driver_state(state.address, finished.driver_state)
        except OSError as error:
            pf_log(state).warning("cannot store the driver state: %s", error.strerror)

    def _back_off(self, state: PfState) -> None:
        failures, attempts, suspended = state.retries.failures, state.retries.attempts + 1, state.retries.suspended
        # When a card is pulled out, whatever is running fails. So a failure is an error when it comes again.
        first = attempts == 1 and all(failure.retryable for failure in failures)
        for failure in failures:
            hint = f" ({failure.hint})" if failure.hint else ""
            text = failure.text.removeprefix(f"{state.address}: ")
            pf_log(state, step=failure.step).log(logging.INFO if first else logging.ERROR, "%s%s", text, hint)
        if attempts >= MOST_ATTEMPTS or not any(failure.retryable or failure.refused for failure in failures):
            suspended = Suspended(state.remaining, state.plan.steps or state.progress.tried)
            text = "suspended after %d attempts, until the PF or the policy changes"
            pf_log(state).of(Message.SUSPENDED).error(text, attempts)
        state.retries = Retries(failures, attempts, time.monotonic(), suspended)

    def _schedule(self, state: PfState) -> None:
        request, now = state.request, self._loop.time()
        state.note_grace(now)
        request.due = None
        if state.retries.backing_off:
            request.due_again(now + min(2.0 ** min(state.retries.attempts - 1, 10), _LONGEST_DELAY_S))
        elif request.dirty:
            request.due = now + (0.0 if state.pending else self._delay_s(state))
        elif state.kernel_busy or state.unreadable:
            request.due_again(now + _BUSY_S)
        elif state.plan.deferred or state.refused:
            request.due_again(now + (_DEFERRED_S if state.plan.deferred else REFUSED_S))
        ends = request.due if state.retries.backing_off else state.grace.ends
        request.next_at = None if ends is None else float(round(time.time() + ends - now))

    def _delay_s(self, state: PfState) -> float:
        return state.request.delay_s(self._loop.time(), known=state.known, pending=state.pending)

    def _end_grace(self, state: PfState, now: float) -> None:
        """Reconcile it without its netdev; later, while udev has events: these may load a module that makes it."""
        grace = state.grace
        if grace.ends is None or grace.check is None or now < grace.check or state.reconciling:
            return
        if self._context.udev_busy() and now < grace.ends + _UDEV_LIMIT_S:
            state.grace = replace(grace, check=now + ARRIVAL_S)
        else:
            state.grace = Grace(grace.ends, None, over=True)
            self.ask(state, now=True)
