# SPDX-License-Identifier: Apache-2.0
"""What the agent holds of one PF between looks, and the phase that follows from it."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from vfagent.model.desired import DesiredPf
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Pf
from vfagent.model.network import HostNetwork
from vfagent.model.pci import PciAddress
from vfagent.model.status import Phase, TimedStep
from vfagent.plan.planner import UDEV_NOT_DONE, Plan
from vfagent.plan.steps import BindDriver, SetNumvfs, Step
from vfagent.plan.vf import Planned
from vfagent.reconcile.reports import Failure, Finished, Observed, Report, StepEnded, StepStarted
from vfagent.reconcile.rounds import Suspended, deadline_s

ARRIVAL_S = 1.0  # from a new device's first event; its last one does not wait
_QUIET_S = 0.1  # events of one change come in a burst
_PATIENCE_S = 1.0  # but a storm must not put a look off for ever
_REST = 3.0  # times as long as the look before: its own steps' events come for seconds, and others need the processors
_CROWD_S = 5.0  # of udev's at a look that need not be at once
_WAITING_GRACE_S = 10.0  # for drivers and links at start
_FIGHT_S = 60.0
MOST_REPAIRS = 10  # of one thing within a minute: whoever changes it back is a program


@dataclass(slots=True)
class PfState:
    """One PF. Changed by the loop alone, never by a worker."""

    address: PciAddress
    pf: Pf | None = None
    desired: DesiredPf | None = None
    plan: Plan = field(default_factory=Plan)
    rule_pending: bool = False
    driver_state: DriverState = field(default_factory=DriverState)
    known: bool = False
    seen: bool = False  # it was there in a look
    outdated: bool = False  # its last look was by the policy before this one
    reconciling: bool = False
    dirty: bool = False
    urgent: bool = False  # dirty, and not to rest first
    asked_at: float | None = None  # CLOCK_MONOTONIC of the first unanswered event
    stuck: bool = False
    released: bool = False
    failures: tuple[Failure, ...] = ()
    attempts: int = 0  # failures in a row, cleared after a quiet minute
    suspended: Suspended | None = None  # until something changes
    tried: tuple[Planned, ...] = ()  # the last plan that had steps
    repairs: dict[str, list[float]] = field(default_factory=dict)  # when each step was done again, lately
    failed_at: float = 0.0
    waiting_since: float | None = None
    converged_as: DesiredPf | None = None  # what it was converged to; a later difference is drift
    rounds: int = 0
    timeline: list[TimedStep] = field(default_factory=list)
    logged: int = 0  # how much of the timeline is in the journal
    running: dict[Step, float] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None
    reconciled_at: float = float("-inf")  # by the loop's time: when its last look began, or ended
    rests_until: float = 0.0  # by the loop's time: no look before, unless something has come that it was waiting for
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
        if self.failures or self.plan.steps:
            return Phase.CONVERGING
        if self.plan.waiting:
            return Phase.WAITING
        return Phase.DEFERRED if self.plan.deferred else Phase.CONVERGED

    @property
    def pending(self) -> bool:
        """Something that it needs is on its way."""
        return self.rule_pending or bool(self.plan.waiting)

    @property
    def needs_links(self) -> bool:
        """Whether links that are not there yet concern it: a bridge of somebody's, representors."""
        return self.pf is not None and self.pf.network is not None and bool(self.plan.waiting or self.plan.problems)

    @property
    def bridged(self) -> bool:
        """Whether what a bridge of the host learns concerns it."""
        return self.desired is not None and any(
            vlan_interface.bridge for vlan_interface in self.desired.vlan_interfaces
        )

    @property
    def remaining(self) -> tuple[Planned, ...]:
        """What the last look planned and did not get: all of it, where what was done does not hold."""
        failed = {one.text: one.failed for one in self.timeline}  # the last time counts
        left = tuple(one for one in self.plan.steps if failed.get(one.step.describe(), "not begun") is not None)
        return left or self.plan.steps

    def repaired(self, now: float) -> str | None:
        """Note the last look's steps; gives one that was done again and again within a minute."""
        for text in {one.text for one in self.timeline}:
            self.repairs.setdefault(text, []).append(now)
        lately = {text: [at for at in times if now - at < _FIGHT_S] for text, times in self.repairs.items()}
        self.repairs = {text: times for text, times in lately.items() if times}
        return next((text for text, times in self.repairs.items() if len(times) >= MOST_REPAIRS), None)

    def unfinished(self, now: float, udev_busy_at: float) -> bool:
        """Whether READY waits for it. While udev has events to handle, a driver may yet be loaded."""
        match self.phase:
            case Phase.UNKNOWN | Phase.CONVERGING:
                return self.attempts < 2
            case Phase.WAITING:
                return self.waiting_since is None or now - max(self.waiting_since, udev_busy_at) < _WAITING_GRACE_S
            case Phase.CONVERGED:
                return any(now - since < _WAITING_GRACE_S for since in self._probing_since())
            case _:
                return False

    def _probing_since(self) -> Iterator[float]:
        """When the VFs that show no netdev yet were bound to their host driver: iavf makes it later, on its own."""
        bound = {one.text: one.ended for one in self.timeline if one.ended}
        hosts = (vf for vf in self.pf.vfs if vf.driver and not vf.netdevs) if self.pf and self.pf.is_nic else ()
        for vf in hosts:
            steps = (BindDriver(self.address, vf.index, address, None) for address in (None, vf.address))
            yield from (bound[text] for step in steps if (text := step.describe()) in bound)

    def put_off(self) -> bool:
        """Note that it waits for udev. False when it has for long: then it is looked at all the same."""
        self.waiting_since = self.waiting_since or time.monotonic()
        self.plan, self.urgent = Plan(waiting=(UDEV_NOT_DONE,)), False
        return time.monotonic() - self.waiting_since < _WAITING_GRACE_S

    def can_wait(self) -> bool:
        """Whether it was as it should be, and nobody is in a hurry: events of its own VFs, of which udev makes many."""
        self.asked_at = self.asked_at or time.monotonic()
        as_it_should_be = self.known and self.plan.settled and not self.pending
        return as_it_should_be and not self.urgent and time.monotonic() - self.asked_at < _CROWD_S

    def delay_s(self, now: float) -> float:
        """How long the next look waits, by the loop's time."""
        if self.urgent or (self.known and now - self.reconciled_at > _PATIENCE_S):
            return 0.0
        if not self.known:
            return ARRIVAL_S
        return _QUIET_S if self.pending else max(_QUIET_S, self.rests_until - now)

    def rest(self, now: float) -> None:
        """Its look has ended."""
        self.rests_until = now + min(_REST * (now - self.reconciled_at), _PATIENCE_S)
        self.reconciled_at = now

    def cancel_timer(self) -> None:
        if self.timer:
            self.timer.cancel()
            self.timer = None

    @property
    def deadline_s(self) -> float:
        """How long the worker may stay silent now."""
        return max((deadline_s(step) for step in self.running), default=30.0)

    def take(self, report: Report) -> None:
        match report:
            case Observed():
                self._take_look(report)
            case StepStarted():
                self.running[report.step] = report.at
                if isinstance(report.step, SetNumvfs):
                    self.driver_state = self.driver_state.without_vfs()  # also when the worker does not live to tell
            case StepEnded():
                started = self.running.pop(report.step, report.at)
                failed = report.failure.text if report.failure else None
                self.timeline.append(TimedStep(report.step.describe(), started, report.at, failed))
            case Finished():
                self.driver_state = report.driver_state
                self.running.clear()  # steps begun together and refused were done singly, in other words

    def _take_look(self, looked: Observed) -> None:
        if self.suspended and _driven(looked.pf) != _driven(self.pf):
            # Another driver, or the same one loaded anew, may take what was refused.
            self.suspended, self.attempts, self.dirty = None, 0, True
        self.known, self.outdated, self.seen = True, False, self.seen or looked.pf is not None
        self.rounds += 1
        self.pf, self.desired, self.plan, self.rule_pending = (
            looked.pf,
            looked.desired,
            looked.plan,
            looked.rule_pending,
        )
        self.ifindexes = _ifindexes(looked.pf)
        self.tried = looked.plan.steps or self.tried
        if looked.round == 1 and looked.plan.steps:
            self.timeline, self.logged = [], 0


def _driven(pf: Pf | None) -> tuple[str | None, int | None]:
    """What of a PF is another when its driver is."""
    return (pf.driver, pf.netdev.ifindex if pf.netdev else None) if pf else (None, None)


def _ifindexes(pf: Pf | None) -> frozenset[int]:
    if pf is None:
        return frozenset()
    own = {pf.netdev.ifindex} if pf.netdev else set[int]()
    network = pf.network or HostNetwork()
    beside = {one.ifindex for one in network.links} | {one.ifindex for one in network.representors}
    return frozenset(own | beside | {netdev.ifindex for vf in pf.vfs for netdev in vf.netdevs})
