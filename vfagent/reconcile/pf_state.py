# SPDX-License-Identifier: Apache-2.0
"""The scheduler's state of one PF between two reconciles, and the phase that follows from it."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from vfagent.frozen import frozen
from vfagent.model.desired import DesiredPf
from vfagent.model.driver_state import DriverState
from vfagent.model.evidence import UIO_DRIVERS
from vfagent.model.inventory import Pf
from vfagent.model.numvfs_lock import KernelBusy
from vfagent.model.pci import PciAddress
from vfagent.model.status import Phase
from vfagent.model.vf_settings import ISOLATING, Attribute
from vfagent.model.vf_use import pf_in_use
from vfagent.plan.network_steps import FdbStep
from vfagent.plan.no_netdev import NETDEV_GRACE_S
from vfagent.plan.planner import UDEV_NOT_DONE, Plan
from vfagent.plan.step_facts import StepId
from vfagent.plan.steps import BindDriver, SetNumvfs, Step
from vfagent.plan.vf import Planned
from vfagent.reconcile.reports import Failure, Finished, Observed, Report, StepEnded, StepStarted, Waits
from vfagent.reconcile.requests import Request
from vfagent.reconcile.rounds import Suspended

_WAITING_GRACE_S = 10.0  # for drivers and links at start
_REPAIRS_S = 60.0
REFUSED_S = 600.0  # between two attempts at isolation that the driver refuses
MOST_REPAIRS = 10  # of one step within a minute: then another program reverts it
_SILENCE_S = 30.0  # of a worker that has no step at work


class Work(Enum):
    """What the PF's worker does. Stuck: it hangs in the kernel, and SIGKILL does not end it."""

    NONE = auto()
    RECONCILING = auto()
    STUCK = auto()


@frozen(slots=True)
class EndedStep:
    """A step of the last reconcile that had steps. Times are by CLOCK_MONOTONIC; `failed` is the error's text."""

    step: Step
    started: float
    ended: float
    failed: str | None = None


@dataclass(slots=True)
class Progress:
    """The rounds since the PF was found, and the steps of the last reconcile that had any."""

    rounds: int = 0
    tried: tuple[Planned, ...] = ()  # its plan
    running: dict[StepId, StepStarted] = field(default_factory=dict)
    timeline: list[EndedStep] = field(default_factory=list)

    def observed(self, observed: Observed) -> None:
        self.rounds += 1
        self.tried = observed.plan.steps or self.tried
        if observed.round == 1 and observed.plan.steps:
            self.timeline = []

    def ended(self, report: StepEnded) -> None:
        started = self.running.pop(report.step.id, None)
        failed = report.failure.text if report.failure else None
        self.timeline.append(EndedStep(report.step, started.at if started else report.at, report.at, failed))


@frozen(slots=True)
class Retries:
    """The failures of the last reconcile. `attempts`: failed reconciles in a row, until the PF was converged for a
    minute; `failed_at`: when the last one failed. `suspended`: until the driver or the policy changes."""

    failures: tuple[Failure, ...] = ()
    attempts: int = 0
    failed_at: float = 0.0
    suspended: Suspended | None = None

    @property
    def backing_off(self) -> bool:
        return bool(self.failures) and self.suspended is None


@frozen(slots=True)
class Grace:
    """For a netdev that has yet to come. `ends`: by the loop's time, when it is not waited for any more; `check`: when
    that is seen to; `over`: it has ended."""

    ends: float | None = None
    check: float | None = None
    over: bool = False


@dataclass(slots=True)
class PfState:
    """One PF. Its card's coroutine writes it, and nobody else; `request` is written by whoever asks for a reconcile."""

    address: PciAddress
    request: Request = field(default_factory=Request)
    work: Work = Work.NONE
    observed: Observed = Observed(0, None, None, Plan())
    outdated: bool = False  # its last reconcile was by an older policy
    released: bool = False
    driver_state: DriverState = field(default_factory=DriverState)
    progress: Progress = field(default_factory=Progress)
    retries: Retries = Retries()
    repairs: dict[StepId, list[float]] = field(default_factory=dict)  # when each step was done again, lately
    grace: Grace = Grace()
    kernel_busy: KernelBusy | None = None  # its VFs cannot be created or removed now
    converged_as: DesiredPf | None = None  # what it converged to; a later difference is drift
    waiting_since: float | None = None
    refused_at: float = 0.0  # when isolation was refused first, or tried again last, by the loop's time

    @property
    def pf(self) -> Pf | None:
        return self.observed.pf

    @property
    def desired(self) -> DesiredPf | None:
        return self.observed.desired

    @property
    def plan(self) -> Plan:
        return self.observed.plan

    @property
    def known(self) -> bool:
        """Whether it was observed."""
        return self.observed.round > 0

    @property
    def stuck(self) -> bool:
        return self.work is Work.STUCK

    @property
    def reconciling(self) -> bool:
        return self.work is not Work.NONE

    @property
    def phase(self) -> Phase:
        if self.stuck:
            return Phase.STUCK
        if self.released:
            return Phase.RELEASED
        if not self.known:
            if self.retries.suspended:
                return Phase.FAILED
            return Phase.WAITING if self.plan.waiting else Phase.UNKNOWN
        if self.progress.running or self.outdated:
            return Phase.CONVERGING
        return self._settled_phase()

    def _settled_phase(self) -> Phase:
        if self.desired is None:
            return Phase.WAITING if self.observed.rule_pending else Phase.UNMANAGED
        if self.retries.suspended or self.plan.problems:
            return Phase.FAILED
        if self.kernel_busy:
            return Phase.WAITING
        if self.retries.failures or self.plan.steps:
            return Phase.CONVERGING
        if self.plan.waiting:
            return Phase.WAITING
        return Phase.DEFERRED if self.plan.deferred else Phase.CONVERGED

    @property
    def pending(self) -> bool:
        """Whether something that it needs has yet to arrive."""
        return self.observed.rule_pending or bool(self.plan.waiting)

    @property
    def unreadable(self) -> bool:
        """Whether the kernel refused to show it, for which there need not be another event."""
        return self.pf is not None and self.pf.unobserved is not None and self.desired is not None

    @property
    def refused(self) -> bool:
        """Whether a VF is without isolation because the driver refused it: that is tried again, slowly."""
        lacking = any(problem.lacks for problem in self.plan.problems)
        return lacking and not ISOLATING.isdisjoint(self.driver_state.unsupported)

    @property
    def remaining(self) -> tuple[Planned, ...]:
        """The steps of the last plan that were not done; the whole plan where they were done and do not hold."""
        results = {ended.step.id: ended.failed for ended in self.progress.timeline}  # the last attempt counts
        left = tuple(item for item in self.plan.steps if results.get(item.step.id, "not begun") is not None)
        return left or self.plan.steps

    def silence_s(self) -> float:
        """How long the worker may stay silent now."""
        return max((started.step.deadline_s for started in self.progress.running.values()), default=_SILENCE_S)

    def unfinished(self, now: float, udev_busy_at: float) -> bool:
        """Whether READY waits for it. While udev has events to handle, it may still load a driver."""
        match self.phase:
            case Phase.UNKNOWN | Phase.CONVERGING:
                return self.retries.attempts < 2
            case Phase.WAITING if self.kernel_busy:
                return not self.kernel_busy.hangs
            case Phase.WAITING if self.pf and (self.pf.netdev_away or self.pf.driver in UIO_DRIVERS):
                return False  # somebody has it on purpose
            case Phase.WAITING if self.pf and self.pf.netdev_pending:
                return True  # until its grace is over
            case Phase.WAITING:
                return self.waiting_since is None or now - max(self.waiting_since, udev_busy_at) < _WAITING_GRACE_S
            case Phase.CONVERGED:
                return any(now - bound_at < _WAITING_GRACE_S for bound_at in self._probing_since())
            case _:
                return False

    def _probing_since(self) -> Iterator[float]:
        """When the VFs that show no netdev yet were bound to their host driver: iavf registers it later, by itself."""
        bound = {ended.step.id: ended.ended for ended in self.progress.timeline}
        hosts = (vf for vf in self.pf.vfs if vf.driver and not vf.netdevs) if self.pf and self.pf.is_nic else ()
        for vf in hosts:
            step_id = BindDriver(self.address, vf.index, vf.address, None).id
            if step_id in bound:
                yield bound[step_id]

    def put_off(self) -> bool:
        """Note that it waits for udev. False once it has waited long enough: then it is reconciled all the same."""
        self.waiting_since = self.waiting_since or time.monotonic()
        self.observed = Observed(0, None, None, Plan(waiting=(UDEV_NOT_DONE,)))
        return time.monotonic() - self.waiting_since < _WAITING_GRACE_S

    def begin(self, now: float) -> None:
        """A reconcile begins. Refusals that are old are forgotten: the driver may have been in a reset, or in another
        mode."""
        self.work = Work.RECONCILING
        if self.refused and now - self.refused_at >= REFUSED_S:
            self.driver_state = self.driver_state.without_refusals(keep=frozenset(Attribute) - ISOLATING)
            self.refused_at = now
            self.converged_as = None  # that it still does not hold is no drift

    def take(self, report: Report) -> None:
        match report:
            case Observed():
                self._take_observed(report)
            case Waits():
                self.kernel_busy = report.busy
            case StepStarted():
                self.progress.running[report.step.id] = report
                if isinstance(report.step, SetNumvfs):
                    self.kernel_busy = None
                    self.driver_state = self.driver_state.without_vfs()  # also if the worker dies before it reports
            case StepEnded():
                self.progress.ended(report)
            case Finished():
                self.driver_state = report.driver_state
                self.progress.running.clear()

    def _take_observed(self, observed: Observed) -> None:
        if self.known and (observed.pf is None or observed.pf.netdev or _differ(observed.pf, self.pf)):
            self.grace = Grace()
        if self.retries.suspended and _driver_of(observed.pf) != _driver_of(self.pf):
            # Another driver, or the same one loaded again, may accept what was refused.
            self.retries = replace(self.retries, suspended=None, attempts=0)
            self.request.dirty = True
        self.observed, self.outdated = observed, False
        self.progress.observed(observed)
        if not any(isinstance(planned.step, SetNumvfs) for planned in observed.plan.steps):
            self.kernel_busy = None

    def repaired(self, now: float) -> Step | None:
        """Note the steps of the last reconcile. Returns a step that was repeated MOST_REPAIRS times in a minute.

        A guest's MAC in the FDB may come and go as often: it is the guest that makes it so.
        """
        steps = {ended.step.id: ended.step for ended in self.progress.timeline if not isinstance(ended.step, FdbStep)}
        for step_id in steps:
            self.repairs.setdefault(step_id, []).append(now)
        lately = {step_id: [at for at in times if now - at < _REPAIRS_S] for step_id, times in self.repairs.items()}
        self.repairs = {step_id: times for step_id, times in lately.items() if times}
        return next((steps[step_id] for step_id in steps if len(self.repairs[step_id]) >= MOST_REPAIRS), None)

    def note_grace(self, now: float) -> None:
        """It is to be reconciled without its netdev, or without the rules that need one, if it has none by then.

        Each driver that is bound to it, or lost, begins another grace.
        """
        awaits = self.observed.rule_pending or (self.desired and self.pf and self.pf.netdev_pending)
        if not awaits or self.grace.over:
            self.grace = replace(self.grace, ends=None, check=None)
        elif self.grace.ends is None:
            self.grace = Grace(now + NETDEV_GRACE_S, now + NETDEV_GRACE_S)

    def note_refusals(self, now: float) -> None:
        self.refused_at = (self.refused_at or now) if self.refused else 0.0

    def renew(self) -> None:
        """For another policy: what was suspended, or refused, is tried again."""
        self.outdated = self.known
        self.retries = Retries(self.retries.failures if self.stuck else ())
        self.repairs.clear()
        self.driver_state = self.driver_state.without_refusals()
        if self.pf and not pf_in_use(self.pf):
            self.driver_state = replace(self.driver_state, most_vfs=None)  # it may make more by now


def _driver_of(pf: Pf | None) -> tuple[str | None, int | None]:
    """What identifies one load of a PF's driver: its name, and its netdev's ifindex."""
    return (pf.driver, pf.netdev.ifindex if pf.netdev else None) if pf else (None, None)


def _differ(pf: Pf, before: Pf | None) -> bool:
    """Whether another driver has the PF now, or none any more."""
    return before is None or before.driver != pf.driver
