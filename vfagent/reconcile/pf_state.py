# SPDX-License-Identifier: Apache-2.0
"""The scheduler's state of one PF between two reconciles, and the phase that follows from it."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from vfagent.frozen import frozen
from vfagent.kernel.fdb_monitor import FdbChange
from vfagent.model.desired import DesiredPf
from vfagent.model.driver_state import DriverState
from vfagent.model.evidence import UIO_DRIVERS
from vfagent.model.inventory import Pf
from vfagent.model.network import HostNetwork
from vfagent.model.numvfs_lock import KernelBusy
from vfagent.model.pci import PciAddress
from vfagent.model.status import Phase
from vfagent.model.vf_settings import ISOLATING, Attribute
from vfagent.plan.fdb import bridges_above
from vfagent.plan.network_steps import FdbStep
from vfagent.plan.no_netdev import NETDEV_GRACE_S
from vfagent.plan.planner import UDEV_NOT_DONE, Plan
from vfagent.plan.step_facts import StepId
from vfagent.plan.steps import BindDriver, SetNumvfs, Step
from vfagent.plan.vf import Planned
from vfagent.reconcile.reports import Failure, Finished, Observed, Report, StepEnded, StepStarted, Waits
from vfagent.reconcile.rounds import Suspended

ARRIVAL_S = 1.0  # after a new device's first event; its last event starts a reconcile at once
_QUIET_S = 0.1  # the events of one change come in a burst
_LONGEST_DELAY_S = 1.0  # a storm of events does not delay a reconcile for longer
_REST = 3.0  # times the last reconcile: the events of its own steps follow for seconds, and others need the processors
_UDEV_BUSY_S = 5.0  # how long a reconcile that is not urgent waits while udev is busy
_WAITING_GRACE_S = 10.0  # for drivers and links at start
_REPAIRS_S = 60.0
REFUSED_S = 600.0  # between two attempts at isolation that the driver refuses
MOST_REPAIRS = 10  # of one step within a minute: then another program reverts it


@frozen(slots=True)
class EndedStep:
    """A step of the last reconcile that had steps. Times are by CLOCK_MONOTONIC; `failed` is the error's text."""

    step: Step
    started: float
    ended: float
    failed: str | None = None


@dataclass(slots=True)
class PfState:
    """One PF. Changed by the event loop alone, never by a worker."""

    address: PciAddress
    pf: Pf | None = None
    desired: DesiredPf | None = None
    plan: Plan = field(default_factory=Plan)
    card: str = ""  # its PFs are reconciled in turn; read when a reconcile begins
    rule_pending: bool = False  # a rule may match once the PF's driver and netdev are there
    driver_state: DriverState = field(default_factory=DriverState)
    known: bool = False  # it was observed
    seen: bool = False  # it was there when it was observed
    outdated: bool = False  # its last reconcile was by an older policy
    reconciling: bool = False
    dirty: bool = False
    urgent: bool = False  # dirty, and to be reconciled without a delay
    asked_at: float | None = None  # CLOCK_MONOTONIC of the first event that no reconcile has followed
    stuck: bool = False
    kernel_busy: KernelBusy | None = None  # its VFs cannot be created or removed now
    released: bool = False
    failures: tuple[Failure, ...] = ()
    attempts: int = 0  # failures in a row, cleared after a minute of being converged
    suspended: Suspended | None = None  # until the driver or the policy changes
    tried: tuple[Planned, ...] = ()  # the last plan that had steps
    repairs: dict[StepId, list[float]] = field(default_factory=dict)  # when each step was done again, lately
    failed_at: float = 0.0
    refused_at: float = 0.0  # when isolation was refused first, or tried again last, by the loop's time
    waiting_since: float | None = None
    converged_as: DesiredPf | None = None  # what it converged to; a later difference is drift
    grace_ends: float | None = None  # by the loop's time: when its netdev is not waited for any more
    grace_over: bool = False
    rounds: int = 0
    timeline: list[EndedStep] = field(default_factory=list)
    logged: int = 0  # how much of the timeline is in the journal
    running: dict[StepId, StepStarted] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None
    deadline: float | None = None  # in seconds since the epoch: its next attempt, or the end of its grace
    grace_timer: asyncio.TimerHandle | None = None
    reconciled_at: float = float("-inf")  # by the loop's time: when the last reconcile began, or ended
    rests_until: float = 0.0  # by the loop's time: no reconcile before, except for an event that it waits for
    ifindexes: frozenset[int] = frozenset()  # the netdevs whose changes concern this PF

    @property
    def phase(self) -> Phase:
        if self.stuck:
            return Phase.STUCK
        if self.released:
            return Phase.RELEASED
        if not self.known:
            if self.suspended:
                return Phase.FAILED
            return Phase.WAITING if self.plan.waiting else Phase.UNKNOWN
        if self.running or self.outdated:
            return Phase.CONVERGING
        return self._settled_phase()

    def _settled_phase(self) -> Phase:
        if self.desired is None:
            return Phase.WAITING if self.rule_pending else Phase.UNMANAGED
        if self.suspended or self.plan.problems:
            return Phase.FAILED
        if self.kernel_busy:
            return Phase.WAITING
        if self.failures or self.plan.steps:
            return Phase.CONVERGING
        if self.plan.waiting:
            return Phase.WAITING
        return Phase.DEFERRED if self.plan.deferred else Phase.CONVERGED

    @property
    def pending(self) -> bool:
        """Whether something that it needs has yet to arrive."""
        return self.rule_pending or bool(self.plan.waiting)

    @property
    def needs_links(self) -> bool:
        """Whether links that do not exist yet concern it: a foreign bridge, representors."""
        return self.pf is not None and self.pf.network is not None and bool(self.plan.waiting or self.plan.problems)

    @property
    def unreadable(self) -> bool:
        """Whether the kernel refused to show it, for which there need not be another event."""
        return self.pf is not None and self.pf.unobserved is not None and self.desired is not None

    @property
    def bridged(self) -> bool:
        """Whether the FDB of a bridge of the host concerns it."""
        return self.pf is not None and bool(bridges_above(self.pf))

    def follows(self, change: FdbChange) -> bool:
        """Whether the change of an FDB concerns it. What an uplink brings does not, unless it had been a guest's."""
        network = self.pf.network if self.pf and self.desired and self.desired.fdb else None
        if self.pf is None or network is None:
            return False
        if change.bridge is None:
            return change.ifindex in self.ifindexes and change.mac in self.driver_state.fdb
        if all(bridge.ifindex != change.bridge for bridge in bridges_above(self.pf)):
            return False
        return change.ifindex not in network.uplinks or change.mac in self.driver_state.fdb

    @property
    def remaining(self) -> tuple[Planned, ...]:
        """The steps of the last plan that were not done; the whole plan where they were done and do not hold."""
        results = {ended.step.id: ended.failed for ended in self.timeline}  # the last attempt counts
        left = tuple(item for item in self.plan.steps if results.get(item.step.id, "not begun") is not None)
        return left or self.plan.steps

    def repaired(self, now: float) -> Step | None:
        """Note the steps of the last reconcile. Returns a step that was repeated MOST_REPAIRS times in a minute.

        A guest's MAC in the FDB may come and go as often: it is the guest that makes it so.
        """
        steps = {ended.step.id: ended.step for ended in self.timeline if not isinstance(ended.step, FdbStep)}
        for step_id in steps:
            self.repairs.setdefault(step_id, []).append(now)
        lately = {step_id: [at for at in times if now - at < _REPAIRS_S] for step_id, times in self.repairs.items()}
        self.repairs = {step_id: times for step_id, times in lately.items() if times}
        return next((steps[step_id] for step_id in steps if len(self.repairs[step_id]) >= MOST_REPAIRS), None)

    def unfinished(self, now: float, udev_busy_at: float) -> bool:
        """Whether READY waits for it. While udev has events to handle, it may still load a driver."""
        match self.phase:
            case Phase.UNKNOWN | Phase.CONVERGING:
                return self.attempts < 2
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
        bound = {ended.step.id: ended.ended for ended in self.timeline}
        hosts = (vf for vf in self.pf.vfs if vf.driver and not vf.netdevs) if self.pf and self.pf.is_nic else ()
        for vf in hosts:
            step_id = BindDriver(self.address, vf.index, vf.address, None).id
            if step_id in bound:
                yield bound[step_id]

    def note_grace(self, now: float) -> float | None:
        """When it is to be reconciled without its netdev, or without the rules that need one, if it has none by then.

        Each driver that is bound to it, or lost, begins another grace.
        """
        awaits = self.rule_pending or (self.desired and self.pf and self.pf.netdev_pending)
        self.grace_ends = (self.grace_ends or now + NETDEV_GRACE_S) if awaits and not self.grace_over else None
        return self.grace_ends

    def put_off(self) -> bool:
        """Note that it waits for udev. False once it has waited long enough: then it is reconciled all the same."""
        self.waiting_since = self.waiting_since or time.monotonic()
        self.plan, self.urgent = Plan(waiting=(UDEV_NOT_DONE,)), False
        return time.monotonic() - self.waiting_since < _WAITING_GRACE_S

    def can_wait(self) -> bool:
        """Whether it was converged and its events are not urgent: udev makes many events of the VFs' own."""
        self.asked_at = self.asked_at or time.monotonic()
        converged = self.known and self.plan.settled and not self.pending
        return converged and not self.urgent and time.monotonic() - self.asked_at < _UDEV_BUSY_S

    def delay_s(self, now: float) -> float:
        """How long the next reconcile waits. `now` is the loop's time."""
        if self.urgent or (self.known and now - self.reconciled_at > _LONGEST_DELAY_S):
            return 0.0
        if not self.known:
            return ARRIVAL_S
        return _QUIET_S if self.pending else max(_QUIET_S, self.rests_until - now)

    def rest(self, now: float) -> None:
        """Its reconcile has ended."""
        self.rests_until = now + min(_REST * (now - self.reconciled_at), _LONGEST_DELAY_S)
        self.reconciled_at = now

    @property
    def refused(self) -> bool:
        """Whether a VF is without isolation because the driver refused it: that is tried again, slowly."""
        lacking = any(problem.lacks for problem in self.plan.problems)
        return lacking and not ISOLATING.isdisjoint(self.driver_state.unsupported)

    def try_refused_again(self, now: float) -> None:
        """Forget the refusals once they are old: the driver may have been in a reset, or in another mode."""
        if self.refused and now - self.refused_at >= REFUSED_S:
            self.driver_state = self.driver_state.without_refusals(keep=frozenset(Attribute) - ISOLATING)
            self.refused_at = now
            self.converged_as = None  # that it still does not hold is no drift

    def note_refusals(self, now: float) -> None:
        self.refused_at = (self.refused_at or now) if self.refused else 0.0

    def set_grace_timer(self, timer: asyncio.TimerHandle | None) -> None:
        if self.grace_timer:
            self.grace_timer.cancel()
        self.grace_timer = timer

    def cancel_timer(self) -> None:
        if self.timer:
            self.timer.cancel()
            self.timer = None

    @property
    def deadline_s(self) -> float:
        """How long the worker may stay silent now."""
        return max((started.step.deadline_s for started in self.running.values()), default=30.0)

    def take(self, report: Report) -> None:
        match report:
            case Observed():
                self._take_observed(report)
            case Waits():
                self.kernel_busy = report.busy
            case StepStarted():
                self.running[report.step.id] = report
                if isinstance(report.step, SetNumvfs):
                    self.kernel_busy = None
                    self.driver_state = self.driver_state.without_vfs()  # also if the worker dies before it reports
            case StepEnded():
                started = self.running.pop(report.step.id, None)
                failed = report.failure.text if report.failure else None
                began = started.at if started else report.at
                self.timeline.append(EndedStep(report.step, began, report.at, failed))
            case Finished():
                self.driver_state = report.driver_state
                self.running.clear()

    def _take_observed(self, observed: Observed) -> None:
        if self.known and (observed.pf is None or observed.pf.netdev or _differ(observed.pf, self.pf)):
            self.grace_ends, self.grace_over = None, False
        if self.suspended and _driver_of(observed.pf) != _driver_of(self.pf):
            # Another driver, or the same one loaded again, may accept what was refused.
            self.suspended, self.attempts, self.dirty = None, 0, True
        self.known, self.outdated, self.seen = True, False, self.seen or observed.pf is not None
        self.rounds += 1
        self.pf, self.desired, self.plan = observed.pf, observed.desired, observed.plan
        self.rule_pending = observed.rule_pending
        self.ifindexes = _ifindexes(observed.pf)
        self.tried = observed.plan.steps or self.tried
        if not any(isinstance(planned.step, SetNumvfs) for planned in observed.plan.steps):
            self.kernel_busy = None
        if observed.round == 1 and observed.plan.steps:
            self.timeline, self.logged = [], 0


def _driver_of(pf: Pf | None) -> tuple[str | None, int | None]:
    """What identifies one load of a PF's driver: its name, and its netdev's ifindex."""
    return (pf.driver, pf.netdev.ifindex if pf.netdev else None) if pf else (None, None)


def _differ(pf: Pf, before: Pf | None) -> bool:
    """Whether another driver has the PF now, or none any more."""
    return before is None or before.driver != pf.driver


def _ifindexes(pf: Pf | None) -> frozenset[int]:
    if pf is None:
        return frozenset()
    own = {netdev.ifindex for netdev in pf.netdevs}
    network = pf.network or HostNetwork()
    related = {link.ifindex for link in network.links} | {link.ifindex for link in network.representors}
    return frozenset(own | related | {netdev.ifindex for vf in pf.vfs for netdev in vf.netdevs})
