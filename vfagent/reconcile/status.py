# SPDX-License-Identifier: Apache-2.0
"""The status of PFs and of the service, from the scheduler's state."""

import os
import time

from vfagent.model.inventory import Pf
from vfagent.model.status import (
    FORMAT,
    FailureStatus,
    GuestPhase,
    GuestStatus,
    PfStatus,
    Phase,
    PolicyStatus,
    Status,
    TimedStep,
    VfStatus,
)
from vfagent.model.vf_use import vf_in_use
from vfagent.plan.attributes import differing, vf_index
from vfagent.plan.isolation import not_isolated
from vfagent.plan.planner import Plan
from vfagent.plan.steps import Step
from vfagent.reconcile.ends_by import ends_by
from vfagent.reconcile.pf_state import PfState


def snapshot(
    pfs: tuple[PfStatus, ...],
    policy: PolicyStatus,
    version: str,
    *,
    ready: bool,
    guests: tuple[GuestStatus, ...] = (),
    bridges: tuple[str, ...] = (),
    idle: bool = True,
) -> Status:
    return Status(FORMAT, version, os.getpid(), time.time(), ready, policy, pfs, guests, bridges, idle)


def summary(status: Status) -> str:
    """One line for `systemctl status`."""
    counts: dict[str, int] = {}
    for pf in status.pfs:
        counts[pf.phase] = counts.get(pf.phase, 0) + 1
    parts = [f"{number} {phase}" for phase, number in sorted(counts.items())] or ["none found"]
    policy = "; the policy on disk is not active" if status.policy.problems else ""
    running = sum(guest.phase is GuestPhase.RUNNING for guest in status.guests)
    guests = f"; {running} of {len(status.guests)} guests run" if status.guests else ""
    return f"PFs: {', '.join(parts)}; {sum(pf.vfs_actual for pf in status.pfs)} VFs{guests}{policy}"


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
        vfs_desired=state.desired.numvfs if state.desired else None,
        vfs_actual=len(pf.vfs) if pf else 0,
        totalvfs=pf.totalvfs if pf else None,
        running_steps=tuple(started.step.describe() for started in state.progress.running.values()),
        pending_steps=tuple(f"{planned.step.describe()} ({planned.reason})" for planned in plan.steps),
        deferred=tuple(f"{item.step.describe()} ({item.reason}): {item.blocker}" for item in plan.deferred),
        waiting=(*plan.waiting, *((state.kernel_busy.text,) if state.kernel_busy else ())),
        problems=tuple(map(str, plan.problems)),
        notes=plan.notes,
        failures=tuple(FailureStatus(failure.text, failure.hint) for failure in state.retries.failures),
        attempts=state.retries.attempts,
        rounds=state.progress.rounds,
        timeline=tuple(
            TimedStep(done.step.describe(), done.started, done.ended, done.failed) for done in state.progress.timeline
        ),
        mtu=netdev.mtu if netdev else None,
        admin_up=netdev.admin_up if netdev else None,
        carrier=netdev.carrier if netdev else None,
        eswitch=pf.eswitch if pf else None,
        hwmode=pf.hwmode if pf else None,
        differs=differing(_pending(plan)).get(None, ()),
        unsupported=tuple(sorted(state.driver_state.unsupported)),
        vfs=_vfs(state, pf) if pf else (),
        shadowed_rules=state.desired.shadowed_rules if state.desired else (),
        waits_for_turn=state.kernel_busy is not None,
        until=ends_by(state),
        until_at=state.request.next_at,
    )


def _pending(plan: Plan) -> tuple[Step, ...]:
    return (*(planned.step for planned in plan.steps), *(deferred.step for deferred in plan.deferred))


def _vfs(state: PfState, pf: Pf) -> tuple[VfStatus, ...]:
    steps = _pending(state.plan)
    differs, phases = differing(steps), _Phases(state)
    lacking = not_isolated(state.desired, pf, steps, state.plan.problems) if state.desired else {}
    return tuple(
        VfStatus(
            index=vf.index,
            address=vf.address,
            driver=vf.driver,
            iommu_group=vf.iommu_group,
            settings=vf.settings,
            in_use=vf_in_use(vf, pf),
            phase=phases.of(vf.index),
            interface=vf.netdevs[0].name if vf.netdevs else None,
            differs=differs.get(vf.index, ()),
            not_isolated=lacking.get(vf.index, ()),
        )
        for vf in pf.vfs
    )


class _Phases:
    """The phase of each VF: its PF's, where that is about the PF as a whole, else what the plan has for the VF."""

    def __init__(self, state: PfState) -> None:
        self._whole = state.phase
        remaining = state.retries.suspended.remaining if state.retries.suspended else ()
        running = tuple(started.step for started in state.progress.running.values())
        self._failed = {vf_index(planned.step) for planned in remaining}
        self._refused = state.desired is not None and state.desired.problem is not None
        self._blocked = {problem.vf for problem in state.plan.problems}
        self._at_work = {vf_index(step) for step in (*running, *(planned.step for planned in state.plan.steps))}
        self._deferred = {vf_index(deferred.step) for deferred in state.plan.deferred}

    def of(self, index: int) -> Phase:
        if self._whole not in (Phase.CONVERGING, Phase.DEFERRED, Phase.FAILED):
            return self._whole
        if self._refused or index in self._failed or index in self._blocked:
            return Phase.FAILED
        if index in self._at_work:
            return Phase.CONVERGING
        return Phase.DEFERRED if index in self._deferred else Phase.CONVERGED
