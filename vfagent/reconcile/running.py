# SPDX-License-Identifier: Apache-2.0
"""One reconcile of a PF, and what its reports add to the counters."""

import time
from dataclasses import dataclass, field

from vfagent.metrics.counters import Counters
from vfagent.process.worker import Worker
from vfagent.reconcile.log import drift
from vfagent.reconcile.pf_state import EndedStep, PfState
from vfagent.reconcile.reports import Failure, Finished, Observed, Report, StepEnded


@dataclass(slots=True)
class ReconcileRun:
    """A worker at a PF, from its task to its end. `failure`: why there is no report of its end."""

    state: PfState
    worker: Worker
    began: float = field(default_factory=time.monotonic)
    round_began: float | None = None
    abandoned: bool = False  # it waited, and was ended: another one follows, or none
    steps: list[EndedStep] = field(default_factory=list)
    finished: Finished | None = None
    failure: Failure | None = None

    def take(self, report: Report, counters: Counters) -> None:
        """Drift is what differs from the state so far, so the state takes the report in between."""
        match report:
            case Observed():
                counters.rounds += 1
                self._end_round(report.began, counters)
                self.round_began = report.began
                counters.drifted(item.step for item in drift(self.state, report))
            case Finished():
                self._end_round(report.ended, counters)
                self.finished = report
        self.state.take(report)
        if isinstance(report, StepEnded):
            ended = self.state.progress.timeline[-1]
            self.steps.append(ended)
            counters.step_ended(report.step, ended.ended - ended.started, failed=report.failure is not None)

    def _end_round(self, at: float, counters: Counters) -> None:
        if self.round_began is not None:
            counters.round_s.observe(at - self.round_began)

    def measure(self, counters: Counters) -> None:
        """The length of the reconcile; where it left nothing to be done, also the time since it was asked for."""
        now, state, request = time.monotonic(), self.state, self.state.request
        counters.reconciles.observe(now - self.began)
        if self.finished is None or self.finished.failures or state.plan.steps:
            return
        if self.steps and state.plan.settled and request.asked_at is not None:
            counters.convergences.observe(now - request.asked_at)
        request.asked_at = now if request.dirty else None
