# SPDX-License-Identifier: Apache-2.0
"""A plan into steps carried out: stages one after the other, the chains of one stage at once."""

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

from vfagent.errors import FewerError, RefusedError, VfagentError
from vfagent.kernel.protocols import Host
from vfagent.model.driver_state import DriverState, StepResult
from vfagent.plan.planner import ParallelGroup, Plan
from vfagent.plan.steps import ConfigureVf, Step
from vfagent.plan.vf import supported
from vfagent.reconcile.driver_state import record_result
from vfagent.reconcile.execute import configure_together, execute
from vfagent.reconcile.reports import Emit, Failure, StepEnded, StepStarted

_TOGETHER = 8  # VFs set by one message: the host's other links wait for the rtnl lock meanwhile


def run_plan(plan: Plan, host: Host, driver_state: DriverState, emit: Emit) -> tuple[DriverState, list[Failure]]:
    """The stages until one fails; then the host's own network, whose chains have nothing to do with each other."""
    failures: list[Failure] = []
    for batch in plan.batches:
        driver_state, failures = _run_batch(batch, host, driver_state, emit)
        if failures:
            break
    for group in plan.independent:
        driver_state, more = _run_batch((group,), host, driver_state, emit)
        failures = failures + more
    return driver_state, failures


def run_steps(steps: tuple[Step, ...], host: Host, emit: Emit) -> None:
    """One after the other, outside of a plan. Raises the first failure's VfagentError."""
    for step in steps:
        emit(StepStarted(step, "as it was found", time.monotonic()))
        execute(step, host)
        emit(StepEnded(step, time.monotonic()))


class _GroupRun(threading.Thread):
    """One chain of a stage. A chain ends at its first failure; the others go on."""

    def __init__(self, group: ParallelGroup, host: Host, driver_state: DriverState, emit: Emit) -> None:
        super().__init__(daemon=True)
        self.group, self.host, self.driver_state, self.emit = group, host, driver_state, emit
        self.results: list[tuple[Step, StepResult]] = []
        self.failures: list[Failure] = []

    def run(self) -> None:
        for group in _groups(self.group):
            if not self._configured_together(group) and not self._run_singly(group):
                return

    def _run_singly(self, group: ParallelGroup) -> bool:
        for planned in group:
            step = _less_unsupported(planned.step, self.driver_state)
            failure = self._execute(step, planned.reason) if step else None
            # A VF that refuses a setting does not keep the others from theirs.
            if failure and not isinstance(step, ConfigureVf):
                return False
        return True

    def _configured_together(self, group: ParallelGroup) -> bool:
        asked = ((_less_unsupported(planned.step, self.driver_state), planned.reason) for planned in group)
        items = [(step, reason) for step, reason in asked if isinstance(step, ConfigureVf)]
        if len(items) < 2:
            return False
        for step, reason in items:
            self.emit(StepStarted(step, reason, time.monotonic()))
        if not configure_together(tuple(step for step, _ in items), self.host):
            return False
        for step, _ in items:
            self._keep(step, StepResult(applied=step.settings))
            self.emit(StepEnded(step, time.monotonic()))
        return True

    def _keep(self, step: Step, result: StepResult) -> None:
        self.results.append((step, result))
        self.driver_state = record_result(self.driver_state, step, result)

    def _execute(self, step: Step, reason: str) -> Failure | None:
        failure = None
        self.emit(StepStarted(step, reason, time.monotonic()))
        try:
            self._keep(step, execute(step, self.host))
        except VfagentError as error:
            if isinstance(error, FewerError):
                self._keep(step, StepResult(made=error.made))
            refused = isinstance(error, RefusedError)
            failure = Failure(step.describe(), str(error), error.hint, error.retryable, refused)
            self.failures.append(failure)
        self.emit(StepEnded(step, time.monotonic(), failure))
        return failure


def _groups(group: ParallelGroup) -> Iterator[ParallelGroup]:
    """The settings of VFs that follow one another can travel together; any other step goes alone."""
    for settings, items in itertools.groupby(group, lambda planned: isinstance(planned.step, ConfigureVf)):
        run, size = tuple(items), _TOGETHER if settings else 1
        yield from (run[at : at + size] for at in range(0, len(run), size))


def _less_unsupported(step: Step, driver_state: DriverState) -> Step | None:
    """What one VF of a card was refused for good is not asked for on the next."""
    if not isinstance(step, ConfigureVf):
        return step
    settings = supported(step.settings, driver_state)
    return None if settings.empty else replace(step, settings=settings)


def _run_batch(
    batch: tuple[ParallelGroup, ...], host: Host, driver_state: DriverState, emit: Emit
) -> tuple[DriverState, list[Failure]]:
    """The chains at once: a sysfs bind goes on while the rtnl lock is held, by a port that comes up for 0.6 s."""
    runs = [_GroupRun(group, host, driver_state, emit) for group in batch]
    for run in runs[1:]:
        run.start()
    runs[0].run()
    for run in runs[1:]:
        run.join()
    for run in runs:
        for step, result in run.results:
            driver_state = record_result(driver_state, step, result)
    return driver_state, [failure for run in runs for failure in run.failures]
