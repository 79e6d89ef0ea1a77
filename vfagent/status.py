# SPDX-License-Identifier: Apache-2.0
"""One frozen snapshot of what the agent sees, does and waits for; what `status` prints."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass

from vfagent.model.inventory import Vf, vf_in_use
from vfagent.model.vf_settings import VfSettings
from vfagent.pf_state import PfState, Phase, TimedStep

FORMAT = 1


@dataclass(frozen=True, slots=True)
class VfStatus:
    index: int
    address: str
    driver: str | None
    iommu_group: int | None
    settings: VfSettings | None
    in_use: str | None


@dataclass(frozen=True, slots=True)
class FailureStatus:
    text: str
    hint: str | None


@dataclass(frozen=True, slots=True)
class PfStatus:
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
    vfs: tuple[VfStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicyStatus:
    files: tuple[str, ...]
    digest: str
    loaded_at: float
    problems: tuple[str, ...] = ()  # of the last reload that failed; the policy before it is in force


@dataclass(frozen=True, slots=True)
class Status:
    format: int
    version: str
    pid: int
    written_at: float
    ready: bool
    policy: PolicyStatus
    pfs: tuple[PfStatus, ...]

    @property
    def converged(self) -> bool:
        done = (Phase.CONVERGED, Phase.UNMANAGED, Phase.RELEASED)
        return not self.policy.problems and all(pf.phase in done for pf in self.pfs)


def snapshot(states: Iterable[PfState], policy: PolicyStatus, version: str, *, ready: bool) -> Status:
    pfs = tuple(pf_status(state) for state in sorted(states, key=lambda state: state.address))
    return Status(FORMAT, version, os.getpid(), time.time(), ready, policy, pfs)


def pf_status(state: PfState) -> PfStatus:
    pf, plan = state.pf, state.plan
    return PfStatus(
        address=state.address,
        interface=pf.netdev.name if pf and pf.netdev else None,
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
        vfs=tuple(_vf_status(vf, nic=pf.is_nic) for vf in pf.vfs) if pf else (),
    )


def _vf_status(vf: Vf, *, nic: bool) -> VfStatus:
    return VfStatus(vf.index, vf.address, vf.driver, vf.iommu_group, vf.settings, vf_in_use(vf, nic=nic))
