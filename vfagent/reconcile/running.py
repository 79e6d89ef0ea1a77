# SPDX-License-Identifier: Apache-2.0
"""One worker that reconciles one PF, and what its reports add to the counters."""

import asyncio
import time
from dataclasses import dataclass, field

from vfagent.metrics.counters import Counters
from vfagent.process import worker
from vfagent.reconcile.log import drift
from vfagent.reconcile.pf_state import PfState
from vfagent.reconcile.reports import Finished, Observed, Report, StepEnded
from vfagent.reconcile.throttle import ThrottledReader


@dataclass(slots=True)
class ReconcileRun:
    """A worker at a PF, from its task to its end."""

    state: PfState
    worker: worker.Worker
    deadline: asyncio.TimerHandle | None = None
    began: float = field(default_factory=time.monotonic)
    round_began: float | None = None
    acted: bool = False
    killed: bool = False
    abandoned: bool = False  # it waited, and was ended: another one follows, or none
    reader: ThrottledReader | None = None
    finished: Finished | None = None

    def count(self, report: Report, counters: Counters) -> None:
        """To be called before the state takes the report: drift is what differs from the state so far."""
        match report:
            case Observed():
                counters.rounds += 1
                self._end_round(report.began, counters)
                self.round_began = report.began
                counters.drifted(item.step for item in drift(self.state, report))
            case StepEnded():
                self.acted = True
                started = self.state.running.get(report.step.id)
                seconds = report.at - started.at if started else 0.0
                counters.step_ended(report.step, seconds, failed=report.failure is not None)
            case Finished():
                self._end_round(report.ended, counters)

    def _end_round(self, at: float, counters: Counters) -> None:
        if self.round_began is not None:
            counters.round_s.observe(at - self.round_began)

    def measure(self, counters: Counters) -> None:
        """The length of the reconcile; where it left nothing to be done, also the time since it was asked for."""
        now, state = time.monotonic(), self.state
        counters.reconciles.observe(now - self.began)
        if self.finished is None or self.finished.failures or state.plan.steps:
            return
        if self.acted and state.plan.settled and state.asked_at is not None:
            counters.convergences.observe(now - state.asked_at)
        state.asked_at = now if state.dirty else None
