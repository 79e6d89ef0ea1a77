# SPDX-License-Identifier: Apache-2.0
"""One frozen snapshot of what the agent sees, does and waits for; what `status` prints."""

import os
import time
from enum import StrEnum

from vfagent.frozen import frozen
from vfagent.model.inventory import Pf, vf_in_use
from vfagent.model.vf_settings import VfSettings
from vfagent.pf_state import PfState, Phase, TimedStep
from vfagent.plan.attributes import differing, vf_index
from vfagent.plan.planner import Plan
from vfagent.plan.steps import Step

FORMAT = 1


@frozen(slots=True)
class VfStatus:
    """A VF as it was found, and what of it is not as the policy says."""

    index: int
    address: str
    driver: str | None
    iommu_group: int | None
    settings: VfSettings | None
    in_use: str | None
    phase: Phase = Phase.UNKNOWN
    interface: str | None = None
    differs: tuple[str, ...] = ()  # the attributes that are not what the policy says


@frozen(slots=True)
class FailureStatus:
    """Why a step failed, and what to do about it."""

    text: str
    hint: str | None


@frozen(slots=True)
class PfStatus:
    """A PF, what is being done about it, and what is in the way."""

    address: str
    interface: str | None
    driver: str | None
    model: str | None
    rule: str | None
    phase: Phase
    vfs_wanted: int | None
    vfs_found: int
    totalvfs: int | None
    doing: tuple[str, ...] = ()
    to_do: tuple[str, ...] = ()
    deferred: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    failures: tuple[FailureStatus, ...] = ()
    attempts: int = 0
    rounds: int = 0
    timeline: tuple[TimedStep, ...] = ()
    mtu: int | None = None
    admin_up: bool | None = None
    carrier: bool | None = None
    eswitch: str | None = None
    hwmode: str | None = None
    differs: tuple[str, ...] = ()
    unsupported: tuple[str, ...] = ()  # attributes that the driver refused for good
    vfs: tuple[VfStatus, ...] = ()
    passed_over: tuple[str, ...] = ()  # rules that match it too, and come after its own


@frozen(slots=True)
class PolicyStatus:
    """The policy in force, and why a later one is not."""

    files: tuple[str, ...]
    digest: str
    loaded_at: float
    problems: tuple[str, ...] = ()  # of the last reload that failed; the policy before it is in force
    rules: tuple[str, ...] = ()  # those for PFs, by name


class GuestPhase(StrEnum):
    WAITING = "waiting"  # for its VFs, or for the next attempt
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"  # by hand, or it ended; until it is started by hand, or its rule changes
    FAILED = "failed"  # it cannot boot, or crashed too often


@frozen(slots=True)
class GuestStatus:
    """`detail`: why it is in this phase, where that is not plain. `outdated`: it runs by an older rule.

    `holds`: the addresses of the VFs that nobody else is to get. `starts` are the agent's, `restarts` systemd's.
    """

    name: str
    phase: GuestPhase
    unit: str
    vfs: tuple[str, ...] = ()
    loader: str | None = None
    pid: int | None = None
    detail: str | None = None
    outdated: bool = False
    holds: tuple[str, ...] = ()
    starts: int = 0
    start_failures: int = 0
    restarts: int | None = None
    started_at: float | None = None


@frozen(slots=True)
class Status:
    """What `status --json` prints. Times in seconds since the epoch."""

    format: int
    version: str
    pid: int
    written_at: float
    ready: bool
    policy: PolicyStatus
    pfs: tuple[PfStatus, ...]
    guests: tuple[GuestStatus, ...] = ()
    bridges: tuple[str, ...] = ()  # what stands in the way of the policy's bridges

    @property
    def converged(self) -> bool:
        done = (Phase.CONVERGED, Phase.UNMANAGED, Phase.RELEASED)
        guests_done = all(guest.phase in (GuestPhase.RUNNING, GuestPhase.STOPPED) for guest in self.guests)
        return not (self.policy.problems or self.bridges) and guests_done and all(pf.phase in done for pf in self.pfs)


def snapshot(
    pfs: tuple[PfStatus, ...],
    policy: PolicyStatus,
    version: str,
    *,
    ready: bool,
    guests: tuple[GuestStatus, ...] = (),
    bridges: tuple[str, ...] = (),
) -> Status:
    return Status(FORMAT, version, os.getpid(), time.time(), ready, policy, pfs, guests, bridges)


def summary(status: Status) -> str:
    """One line for `systemctl status`."""
    counts: dict[str, int] = {}
    for pf in status.pfs:
        counts[pf.phase] = counts.get(pf.phase, 0) + 1
    parts = [f"{number} {phase}" for phase, number in sorted(counts.items())] or ["none found"]
    policy = "; the policy on disk is invalid" if status.policy.problems else ""
    running = sum(guest.phase is GuestPhase.RUNNING for guest in status.guests)
    guests = f"; {running} of {len(status.guests)} guests run" if status.guests else ""
    return f"PFs: {', '.join(parts)}; {sum(pf.vfs_found for pf in status.pfs)} VFs{guests}{policy}"


def pf_status(state: PfState) -> PfStatus:
    pf, plan = state.pf, state.plan
    netdev = pf.netdev if pf else None
    return PfStatus(
        address=state.address,
        interface=netdev.name if netdev else None,
        driver=pf.driver if pf else None,
        model=pf.device_name if pf else None,
        rule=state.desired.rule if state.desired else None,
        phase=state.phase,
        vfs_wanted=state.desired.numvfs if state.desired else None,
        vfs_found=len(pf.vfs) if pf else 0,
        totalvfs=pf.totalvfs if pf else None,
        doing=tuple(step.describe() for step in state.running),
        to_do=tuple(f"{one.step.describe()} ({one.reason})" for one in plan.steps),
        deferred=tuple(f"{one.step.describe()} ({one.reason}): {one.because}" for one in plan.deferred),
        waiting=plan.waiting,
        problems=plan.problems,
        notes=plan.notes,
        failures=tuple(FailureStatus(one.text, one.hint) for one in state.failures),
        attempts=state.attempts,
        rounds=state.rounds,
        timeline=tuple(state.timeline),
        mtu=netdev.mtu if netdev else None,
        admin_up=netdev.admin_up if netdev else None,
        carrier=netdev.carrier if netdev else None,
        eswitch=pf.eswitch if pf else None,
        hwmode=pf.hwmode if pf else None,
        differs=differing(_pending(plan)).get(None, ()),
        unsupported=tuple(sorted(state.memory.unsupported)),
        vfs=_vfs(state, pf) if pf else (),
        passed_over=state.desired.passed_over if state.desired else (),
    )


def _pending(plan: Plan) -> tuple[Step, ...]:
    return (*(one.step for one in plan.steps), *(one.step for one in plan.deferred))


def _vfs(state: PfState, pf: Pf) -> tuple[VfStatus, ...]:
    differs, phases = differing(_pending(state.plan)), _Phases(state)
    return tuple(
        VfStatus(
            index=vf.index,
            address=vf.address,
            driver=vf.driver,
            iommu_group=vf.iommu_group,
            settings=vf.settings,
            in_use=vf_in_use(vf, nic=pf.is_nic),
            phase=phases.of(vf.index),
            interface=vf.netdevs[0].name if vf.netdevs else None,
            differs=differs.get(vf.index, ()),
        )
        for vf in pf.vfs
    )


class _Phases:
    """The phase of each VF: its PF's, where that is about the PF as a whole, else by what the plan says of it."""

    def __init__(self, state: PfState) -> None:
        self._whole = state.phase
        self._failed = {vf_index(one.step) for one in state.given_up.undone} if state.given_up else set[int | None]()
        self._refused = state.desired is not None and state.desired.problem is not None
        self._blocked = {problem.partition(":")[0] for problem in state.plan.problems}
        self._at_work = {vf_index(step) for step in (*state.running, *(one.step for one in state.plan.steps))}
        self._deferred = {vf_index(one.step) for one in state.plan.deferred}

    def of(self, index: int) -> Phase:
        if self._whole not in (Phase.CONVERGING, Phase.DEFERRED, Phase.FAILED):
            return self._whole
        if self._refused or index in self._failed or f"vf{index}" in self._blocked:
            return Phase.FAILED
        if index in self._at_work:
            return Phase.CONVERGING
        return Phase.DEFERRED if index in self._deferred else Phase.CONVERGED
