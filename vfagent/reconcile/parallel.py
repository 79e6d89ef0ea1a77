# SPDX-License-Identifier: Apache-2.0
"""A plan into steps carried out: stages one after the other, the chains of one stage at once."""

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

from vfagent.errors import FewerError, RefusedError, VfagentError
from vfagent.kernel.protocols import Host
from vfagent.model.driver_state import PfMemory, StepResult
from vfagent.plan.planner import Chain, Plan
from vfagent.plan.steps import ConfigureVf, Step
from vfagent.plan.vf import supported
from vfagent.reconcile.driver_state import learn
from vfagent.reconcile.execute import configure_together, execute
from vfagent.reconcile.reports import Emit, Failure, StepEnded, StepStarted

_TOGETHER = 8  # VFs set by one message: the host's other links wait for the rtnl lock meanwhile


def run_plan(plan: Plan, host: Host, memory: PfMemory, emit: Emit) -> tuple[PfMemory, list[Failure]]:
    """The stages until one fails; then the host's own network, whose chains have nothing to do with each other."""
    failures: list[Failure] = []
    for stage in plan.stages:
        memory, failures = _run_stage(stage, host, memory, emit)
        if failures:
            break
    for chain in plan.apart:
        memory, more = _run_stage((chain,), host, memory, emit)
        failures = failures + more
    return memory, failures


def run_steps(steps: tuple[Step, ...], host: Host, emit: Emit) -> None:
    """One after the other, outside of a plan. Raises the first failure's VfagentError."""
    for step in steps:
        emit(StepStarted(step, "as it was found", time.monotonic()))
        execute(step, host)
        emit(StepEnded(step, time.monotonic()))


class _Lane(threading.Thread):
    """One chain of a stage. A chain ends at its first failure; the others go on."""

    def __init__(self, chain: Chain, host: Host, memory: PfMemory, emit: Emit) -> None:
        super().__init__(daemon=True)
        self.chain, self.host, self.memory, self.emit = chain, host, memory, emit
        self.results: list[tuple[Step, StepResult]] = []
        self.failures: list[Failure] = []

    def run(self) -> None:
        for group in _groups(self.chain):
            if not self._configured_together(group) and not self._run_singly(group):
                return

    def _run_singly(self, group: Chain) -> bool:
        for planned in group:
            step = _less_unsupported(planned.step, self.memory)
            failure = self._execute(step, planned.reason) if step else None
            # A VF that refuses a setting does not keep the others from theirs.
            if failure and not isinstance(step, ConfigureVf):
                return False
        return True

    def _configured_together(self, group: Chain) -> bool:
        asked = ((_less_unsupported(planned.step, self.memory), planned.reason) for planned in group)
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
        self.memory = learn(self.memory, step, result)

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


def _groups(chain: Chain) -> Iterator[Chain]:
    """The settings of VFs that follow one another can travel together; any other step goes alone."""
    for settings, items in itertools.groupby(chain, lambda planned: isinstance(planned.step, ConfigureVf)):
        run, size = tuple(items), _TOGETHER if settings else 1
        yield from (run[at : at + size] for at in range(0, len(run), size))


def _less_unsupported(step: Step, memory: PfMemory) -> Step | None:
    """What one VF of a card was refused for good is not asked for on the next."""
    if not isinstance(step, ConfigureVf):
        return step
    settings = supported(step.settings, memory)
    return None if settings.empty else replace(step, settings=settings)


def _run_stage(stage: tuple[Chain, ...], host: Host, memory: PfMemory, emit: Emit) -> tuple[PfMemory, list[Failure]]:
    """The chains at once: a sysfs bind goes on while the rtnl lock is held, by a port that comes up for 0.6 s."""
    lanes = [_Lane(chain, host, memory, emit) for chain in stage]
    for lane in lanes[1:]:
        lane.start()
    lanes[0].run()
    for lane in lanes[1:]:
        lane.join()
    for lane in lanes:
        for step, result in lane.results:
            memory = learn(memory, step, result)
    return memory, [failure for lane in lanes for failure in lane.failures]
