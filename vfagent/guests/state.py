# SPDX-License-Identifier: Apache-2.0
"""The state of one guest, and the phase that follows from it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from vfagent.guests.spec.boot import Boot, Images, boot_of
from vfagent.guests.spec.nics import nics_of
from vfagent.guests.spec.placement import ManagedPf, Placement
from vfagent.guests.spec.unit import rule_digest
from vfagent.kernel.protocols import Host
from vfagent.model.ends_by import GuestEndsBy
from vfagent.model.evidence import is_vfio
from vfagent.model.guest_unit import PAUSED, FoundUnit, unit_name
from vfagent.model.pci import PciAddress
from vfagent.model.status import MOST_ATTEMPTS, GuestPhase, GuestStatus
from vfagent.policy.types import GuestRule
from vfagent.reconcile.observe import DEVICES
from vfagent.reconcile.observe_netdevs import NETDEVS
from vfagent.reconcile.pf_state import PfState
from vfagent.store.guest_records import Record

LONGEST_MISS_S = 30.0  # a mount or device may come at any time, and nothing tells


class Job(StrEnum):
    START = "start"
    STOP = "stop"


@dataclass(slots=True)
class GuestState:
    """`placement` is None where no rule makes this guest any more."""

    name: str
    placement: Placement | None = None
    boot: Boot | None = None
    digest: str = ""
    unit: FoundUnit | None = None
    record: Record | None = None
    paused: tuple[int, str] | None = None  # the process whose QEMU has paused the guest, and the run state
    job: Job | None = None
    again: bool = False  # start it, however it ended
    error: str | None = None
    missing: str | None = None  # a file or device that it cannot start without
    misses: int = 0  # attempts that found it missing
    before: str | None = None  # the guest that is to run before it
    pending: str | None = None  # what it waits for although nothing blocks it: its ROM
    last_line: str | None = None  # of its QEMU that has failed
    attempts: int = 0
    not_before: float = 0.0
    retry_at: float | None = None  # the same, in seconds since the epoch
    starts: int = 0
    start_failures: int = 0

    def update(self, placement: Placement | None, boot: Boot | None) -> None:
        self.placement, self.boot = placement, boot
        if placement is not None and (digest := rule_digest(placement.rule)) != self.digest:
            self.digest, self.error, self.attempts, self.not_before = digest, None, 0, 0.0
            self.missing, self.misses = None, 0

    def done(self, job: Job | None, error: str | None) -> None:
        """The job has ended."""
        self.job, self.error, self.missing, self.misses = None, error, None, 0
        self.starts += job is Job.START
        self.start_failures += job is Job.START and error is not None

    def found_missing(self, missing: str, now: float) -> float:
        """Nothing was started. Returns the pause until the next attempt: there is no last one."""
        self.job, self.error, self.missing = None, None, missing
        delay_s = min(2.0**self.misses, LONGEST_MISS_S)
        self.misses, self.not_before = self.misses + 1, now + delay_s
        return delay_s

    @property
    def running(self) -> bool:
        return self.unit is not None and self.unit.running

    @property
    def known(self) -> object:
        """Whether it is known what became of its start."""
        return self.running or self.error or self.missing or self.before

    @property
    def up(self) -> bool:
        return self.unit is not None and self.unit.active == "active"

    @property
    def to_run(self) -> bool:
        """Its rule wants it to run, and nothing that somebody has to change is in the way."""
        return self.placement is not None and not (
            self.stays_down or self.suspended or (self.boot and self.boot.problem)
        )

    def first(self, guests: Mapping[str, "GuestState"]) -> str | None:
        """The guest that its rule names first, and that is to run, and does not yet."""
        rule = self.placement.rule if self.placement else None
        named = (guests[name] for name in (rule.after if rule else ()) if name in guests)
        return next((other.name for other in named if other.to_run and not other.up), None)

    @property
    def run_state(self) -> str | None:
        """QEMU's run state, if it has paused the guest."""
        return self.paused[1] if self.paused and self.unit and self.paused[0] == self.unit.pid else None

    @property
    def held(self) -> tuple[PciAddress, ...]:
        """The VFs that no other guest may get: its unit's, or those it is being started on."""
        if self.unit is not None and self.unit.running:
            return self.unit.vfs
        starting = self.placement.vfs if self.job is Job.START and self.placement else ()
        return tuple(vf.address for vf in starting)

    @property
    def stays_down(self) -> str | None:
        """Why it is not started automatically, unless its rule changes."""
        if self.again:
            return None
        if self.record_stopped and self.record and self.record.rule == self.digest:
            return self.record_stopped
        failed = self.unit is not None and not self.running and self.unit.rule == self.digest
        if not (failed and self.unit):
            return None
        return f"its unit failed: {self.unit.result}" + (f": {self.last_line}" if self.last_line else "")

    @property
    def record_stopped(self) -> str | None:
        return self.record.stopped if self.record else None

    @property
    def blocker(self) -> str | None:
        """Why a guest that is to start cannot start."""
        if self.placement is None:
            return "no rule makes this guest on the PFs that are present"
        bridge = self.placement.absent_bridge
        absent = f"bridge {bridge} does not exist" if bridge else None
        return (self.boot.problem if self.boot else None) or self.placement.waits or absent

    @property
    def suspended(self) -> bool:
        return self.attempts >= MOST_ATTEMPTS

    def status(self) -> GuestStatus:
        phase, detail = self._phase()
        vfs = tuple(str(vf) for vf in self.placement.vfs) if self.placement else ()
        return GuestStatus(
            name=self.name,
            phase=phase,
            unit=unit_name(self.name),
            vfs=vfs or (self.unit.vfs if self.unit else ()),
            loader=self.boot.loader if self.boot else None,
            pid=self.unit.pid or None if self.unit else None,
            detail=detail,
            outdated=self.running and self.placement is not None and self.unit_rule != self.digest,
            vf_addresses=self.held,
            starts=self.starts,
            start_failures=self.start_failures,
            restarts=self.unit.restarts if self.unit else None,
            started_at=self.unit.started_at if self.unit else None,
            until=(until := self._ends_by(phase)),
            until_at=self.retry_at if until is GuestEndsBy.RETRY else None,
        )

    def _ends_by(self, phase: GuestPhase) -> GuestEndsBy | None:
        match phase:
            case GuestPhase.RUNNING:
                return None
            case GuestPhase.STARTING | GuestPhase.STOPPING:
                return GuestEndsBy.JOB
            case GuestPhase.PAUSED:
                return GuestEndsBy.AGAIN_BY_HAND
            case GuestPhase.STOPPED:
                return GuestEndsBy.BY_HAND
            case GuestPhase.FAILED:
                return GuestEndsBy.BY_HAND if self.suspended or self.stays_down else GuestEndsBy.CHANGE
            case GuestPhase.WAITING:
                return self._waits()
        assert_never(phase)

    def _waits(self) -> GuestEndsBy:
        if self.blocker:
            waits = self.placement and self.placement.absent_bridge and not self.placement.waits
            return GuestEndsBy.BRIDGE if waits else GuestEndsBy.VF
        if self.before:
            return GuestEndsBy.GUEST
        if self.missing:
            return GuestEndsBy.FILE
        if self.error:
            return GuestEndsBy.RETRY
        return GuestEndsBy.TURN if self.pending is None else GuestEndsBy.PREPARED

    @property
    def unit_rule(self) -> str:
        return self.unit.rule if self.unit else ""

    def _phase(self) -> tuple[GuestPhase, str | None]:
        if self.job is Job.STOP or (self.unit and self.unit.active == "deactivating"):
            return GuestPhase.STOPPING, None
        if self.unit and self.unit.active == "active":
            if self.run_state:
                return GuestPhase.PAUSED, f"QEMU has paused it ({self.run_state}): {PAUSED[self.run_state]}"
            return GuestPhase.RUNNING, None if self.placement else self.blocker
        if self.job is Job.START or (self.unit and self.unit.running):
            return GuestPhase.STARTING, self.error
        if why := self.stays_down:
            return GuestPhase.STOPPED if why == self.record_stopped else GuestPhase.FAILED, why
        if self.boot and self.boot.problem:
            return GuestPhase.FAILED, self.boot.problem
        first = f"guest {self.before} is to run first" if self.before else None
        why = self.error or self.blocker or first or self.missing or self.pending
        return GuestPhase.FAILED if self.suspended else GuestPhase.WAITING, why


def managed_pf(state: PfState) -> ManagedPf | None:
    if state.pf is None or state.desired is None:
        return None
    trouble = f"its PF is {state.phase}" if state.stuck or state.released else None
    if state.reconciling or state.progress.running or not state.known:
        trouble = "its PF is being reconciled"
    if state.kernel_busy:
        trouble = f"its PF waits: {state.kernel_busy.text}"
    return ManagedPf(state.pf, state.desired, state.plan, trouble)


def lost_vf(unit: FoundUnit | None, host: Host) -> bool:
    """Whether one of its VFs is being removed, or is gone."""
    return not all(_on_vfio(address, host) for address in unit.vfs) if unit else False


def _on_vfio(address: PciAddress, host: Host) -> bool:
    """A driver whose name does not tell has the folder vfio-dev until the VF is being removed."""
    base = f"{DEVICES}/{address}"
    driver = host.sysfs.link(f"{base}/driver")
    return driver is not None and (is_vfio(driver) or host.sysfs.exists(f"{base}/vfio-dev"))


def with_facts(placement: Placement, host: Host) -> Placement:
    """Its VFs with vendor and device, which decide how the guest can boot through them, and whether its bridges are
    there."""
    vfs = tuple(replace(vf, hardware=_hardware(vf.address, host)) for vf in placement.vfs)
    return replace(placement, vfs=vfs, absent_bridge=absent_bridge(placement.rule, host))


def boot_with(placement: Placement, images: Images, machine_id: str) -> Boot | None:
    """None while its VFs are not known."""
    hardware = tuple(vf.hardware for vf in placement.vfs)
    if not hardware and placement.rule.vfs:
        return None
    mac = placement.vfs[0].mac if placement.vfs else nics_of(placement.rule, (), machine_id)[0].mac
    return boot_of(placement.rule, hardware, images, mac)


def absent_bridge(rule: GuestRule, host: Host) -> str | None:
    """By sysfs alone, which the event loop may read."""
    bridges = (nic.bridge for nic in rule.nic)
    return next((name for name in bridges if not host.sysfs.exists(f"{NETDEVS}/{name}/bridge")), None)


def _hardware(address: PciAddress, host: Host) -> str:
    ids = (host.sysfs.read(f"{DEVICES}/{address}/{name}") or "" for name in ("vendor", "device"))
    return ":".join(text.removeprefix("0x") for text in ids)
