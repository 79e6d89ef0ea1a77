# SPDX-License-Identifier: Apache-2.0
"""One worker at one PF, and what its reports add to the tally."""

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
    reader: ThrottledReader | None = None
    finished: Finished | None = None

    def count(self, report: Report, counters: Counters) -> None:
        """Before the state takes the report: what drifted is told by what was known."""
        match report:
            case Observed():
                counters.rounds += 1
                self._round_over(report.began, counters)
                self.round_began = report.began
                counters.drifted(item.step for item in drift(self.state, report))
            case StepEnded():
                self.acted = True
                seconds = report.at - self.state.running.get(report.step, report.at)
                counters.step_ended(report.step, seconds, failed=report.failure is not None)
            case Finished():
                self._round_over(report.ended, counters)

    def _round_over(self, at: float, counters: Counters) -> None:
        if self.round_began is not None:
            counters.round_s.observe(at - self.round_began)

    def measure(self, counters: Counters) -> None:
        """The look's length and, when it left nothing to do that can be done, the time since it was asked for."""
        now, state = time.monotonic(), self.state
        counters.reconciles.observe(now - self.began)
        if self.finished is None or self.finished.failures or state.plan.steps:
            return
        if self.acted and state.plan.settled and state.asked_at is not None:
            counters.convergences.observe(now - state.asked_at)
        state.asked_at = now if state.dirty else None
