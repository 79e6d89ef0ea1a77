# SPDX-License-Identifier: Apache-2.0
"""Carries out a plan: its batches one after the other, the parallel groups of a batch at once."""

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

from vfagent.errors import RefusedError, StepError, VfagentError, WrongCountError
from vfagent.kernel.protocols import Host
from vfagent.model.driver_state import DriverState, StepResult
from vfagent.plan.planner import Plan
from vfagent.plan.steps import BindDriver, ConfigureVf, SetNumvfs, Step, names
from vfagent.plan.vf import ParallelGroup, supported
from vfagent.reconcile.driver_state import record_result
from vfagent.reconcile.execute import configure_together, execute
from vfagent.reconcile.numvfs_turn import NumvfsTurn
from vfagent.reconcile.reports import Emit, Failure, StepEnded, StepStarted

_COMBINED = 8  # VFs set by one message: the host's other links wait for the rtnl lock meanwhile


_Outcome = tuple[DriverState, list[Failure]]


def run_plan(plan: Plan, host: Host, driver_state: DriverState, emit: Emit) -> _Outcome:
    """The batches until one fails; then the host's own network, whose groups do not depend on each other.

    Where VFs of another card are being created or removed, the network comes first: the batches wait for their turn.
    """
    batched = (planned.step for batch in plan.batches for group in batch for planned in group)
    counts = tuple(step for step in batched if isinstance(step, SetNumvfs))
    if host.numvfs is None or not counts:
        return _run_all(plan, host, driver_state, emit)
    turn, failures = NumvfsTurn(host.numvfs, counts, emit), list[Failure]()
    if not turn.begin():
        driver_state, failures = _run_independent(plan, host, driver_state, emit)
        if failure := turn.wait():
            return driver_state, [*failures, failure]
        plan = replace(plan, independent=())
    try:
        driver_state, more = _run_all(plan, host, driver_state, turn.emit)
    finally:
        turn.end()
    return driver_state, failures + more


def _run_all(plan: Plan, host: Host, driver_state: DriverState, emit: Emit) -> _Outcome:
    """A failing setting of a VF ends no batch: some drivers accept it only with the port up, which may come later."""
    failures, unset = list[Failure](), dict[int, frozenset[str]]()
    for batch in plan.batches:
        driver_state, more = _run_batch(batch, host, driver_state, emit, unset)
        failures += more
        if any(failure.step != ConfigureVf.KIND for failure in more):
            break
    driver_state, more = _run_independent(plan, host, driver_state, emit)
    return driver_state, failures + more


def _run_independent(plan: Plan, host: Host, driver_state: DriverState, emit: Emit) -> _Outcome:
    failures: list[Failure] = []
    for group in plan.independent:
        driver_state, more = _run_batch((group,), host, driver_state, emit, {})
        failures += more
    return driver_state, failures


def run_steps(steps: tuple[Step, ...], host: Host, emit: Emit) -> None:
    """One after the other, outside of a plan. Raises the first failure's VfagentError."""
    for step in steps:
        emit(StepStarted(step, "as in the baseline", time.monotonic()))
        execute(step, host)
        emit(StepEnded(step, time.monotonic()))


class _GroupRun(threading.Thread):
    """One parallel group of a batch. It ends at its first failure; the others go on.

    `unset`: by VF, the attributes that the plan has and that could not be set.
    """

    def __init__(
        self, group: ParallelGroup, host: Host, driver_state: DriverState, emit: Emit, unset: dict[int, frozenset[str]]
    ) -> None:
        super().__init__(daemon=True)
        self.unset = unset
        self.group, self.host, self.driver_state, self.emit = group, host, driver_state, emit
        self.results: list[tuple[Step, StepResult]] = []
        self.failures: list[Failure] = []

    def run(self) -> None:
        for items in _combinable(self.group):
            for step in (planned.step for planned in items):
                if isinstance(step, ConfigureVf):
                    self._note_unset(step.index, add=step.changes)
            if not self._run_combined(items) and not self._run_singly(items):
                return

    def _run_singly(self, items: ParallelGroup) -> bool:
        for planned in items:
            step = _less_unsupported(planned.step, self.driver_state)
            if isinstance(step, BindDriver) and self.unset.get(step.index, frozenset()) & set(names(step.isolation)):
                continue  # in a later round, or never: the plan says why
            failure = self._execute(step, planned.reason) if step else None
            # One VF that refuses a setting does not keep the others from getting theirs.
            if failure and not isinstance(step, ConfigureVf):
                return False
        return True

    def _run_combined(self, items: ParallelGroup) -> bool:
        """Set several VFs by one message. False where each has to be set alone, to know what is refused and why."""
        wanted = ((_less_unsupported(planned.step, self.driver_state), planned.reason) for planned in items)
        steps = [(step, reason) for step, reason in wanted if isinstance(step, ConfigureVf)]
        if len(steps) < 2:
            return False
        for step, reason in steps:
            self.emit(StepStarted(step, reason, time.monotonic()))
        if not configure_together(tuple(step for step, _ in steps), self.host):
            return False
        for step, _ in steps:
            self._keep(step, StepResult(applied=step.settings))
            self.emit(StepEnded(step, time.monotonic()))
        return True

    def _note_unset(self, index: int, *, add: tuple[str, ...] = (), less: tuple[str, ...] = ()) -> None:
        self.unset[index] = self.unset.get(index, frozenset()).union(add).difference(less)

    def _keep(self, step: Step, result: StepResult) -> None:
        if isinstance(step, ConfigureVf):
            self._note_unset(step.index, less=names(result.applied))
        self.results.append((step, result))
        self.driver_state = record_result(self.driver_state, step, result)

    def _execute(self, step: Step, reason: str) -> Failure | None:
        failure = None
        self.emit(StepStarted(step, reason, time.monotonic()))
        try:
            self._keep(step, execute(step, self.host))
        except VfagentError as error:
            if isinstance(error, WrongCountError):
                self._keep(step, StepResult(made=error.made))
            if isinstance(step, ConfigureVf) and isinstance(error, StepError):
                self._note_unset(step.index, less=error.done)
            refused = isinstance(error, RefusedError)
            failure = Failure(step.KIND, str(error), error.hint, error.retryable, refused)
            self.failures.append(failure)
        self.emit(StepEnded(step, time.monotonic(), failure))
        return failure


def _combinable(group: ParallelGroup) -> Iterator[ParallelGroup]:
    """The settings of VFs that follow one another fit in one message; any other step goes alone."""
    for settings, planned in itertools.groupby(group, lambda planned: isinstance(planned.step, ConfigureVf)):
        items, size = tuple(planned), _COMBINED if settings else 1
        yield from (items[at : at + size] for at in range(0, len(items), size))


def _less_unsupported(step: Step, driver_state: DriverState) -> Step | None:
    """Without what the driver has refused for good on another VF of the card."""
    if not isinstance(step, ConfigureVf):
        return step
    settings = supported(step.settings, driver_state)
    return None if settings.empty else replace(step, settings=settings)


def _run_batch(
    batch: tuple[ParallelGroup, ...],
    host: Host,
    driver_state: DriverState,
    emit: Emit,
    unset: dict[int, frozenset[str]],
) -> _Outcome:
    """The groups at once: a sysfs bind goes on while the rtnl lock is held, by a port that comes up for 0.6 s."""
    runs = [_GroupRun(group, host, driver_state, emit, unset) for group in batch]
    for run in runs[1:]:
        run.start()
    runs[0].run()
    for run in runs[1:]:
        run.join()
    for run in runs:
        for step, result in run.results:
            driver_state = record_result(driver_state, step, result)
    return driver_state, [failure for run in runs for failure in run.failures]
