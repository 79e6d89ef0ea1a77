# SPDX-License-Identifier: Apache-2.0
"""The status as values: what vfagent observes, does and waits for. `status --json` prints it."""

from enum import StrEnum

from vfagent.frozen import frozen
from vfagent.model.ends_by import GuestEndsBy
from vfagent.model.vf_settings import VfSettings

FORMAT = 1
MOST_ATTEMPTS = 8  # failures in a row, of a PF's reconcile or a guest's start; then retries are suspended


class Phase(StrEnum):
    UNKNOWN = "unknown"  # not observed yet
    UNMANAGED = "unmanaged"  # no rule matches
    WAITING = "waiting"  # for udev, a driver, a netdev, a link
    CONVERGING = "converging"  # steps are being executed, or will be retried
    CONVERGED = "converged"
    DEFERRED = "deferred"  # the remaining steps would disturb a user of the PF or a VF
    FAILED = "failed"  # suspended: not retried until something changes
    STUCK = "stuck"  # a worker does not return from the kernel; nothing is tried until it does
    RELEASED = "released"  # restored by `vfagent release`


@frozen(slots=True)
class TimedStep:
    """A step of the last convergence that had steps, with times of CLOCK_MONOTONIC."""

    text: str
    started: float
    ended: float | None = None
    failed: str | None = None


@frozen(slots=True)
class VfStatus:
    """A VF as observed, and how it differs from the policy."""

    index: int
    address: str
    driver: str | None
    iommu_group: int | None
    settings: VfSettings | None
    in_use: str | None
    phase: Phase = Phase.UNKNOWN
    interface: str | None = None
    differs: tuple[str, ...] = ()  # the attributes that differ from the policy
    not_isolated: tuple[str, ...] = ()  # the isolation that the policy asks for and that does not hold


@frozen(slots=True)
class FailureStatus:
    """Why a step failed, and what to do about it."""

    text: str
    hint: str | None


@frozen(slots=True)
class PfStatus:
    """A PF, its steps, and what blocks them."""

    address: str
    interface: str | None
    driver: str | None
    model: str | None
    rule: str | None
    phase: Phase
    vfs_desired: int | None
    vfs_actual: int
    totalvfs: int | None
    running_steps: tuple[str, ...] = ()
    pending_steps: tuple[str, ...] = ()
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
    unsupported: tuple[str, ...] = ()  # attributes that the driver does not support
    vfs: tuple[VfStatus, ...] = ()
    shadowed_rules: tuple[str, ...] = ()  # later rules that match it too
    waits_for_turn: bool = False  # to create or remove VFs, behind another PF
    until: str | None = None  # what ends its phase; None where nothing has to
    until_at: float | None = None  # when it is tried all the same, in seconds since the epoch
    since: float | None = None  # when it came into its phase, or the service started, in seconds since the epoch


@frozen(slots=True)
class PolicyStatus:
    """The active policy, and why a later one is not active."""

    files: tuple[str, ...]
    digest: str
    loaded_at: float
    problems: tuple[str, ...] = ()  # of the last reload, if it failed; then the policy before it is active
    rules: tuple[str, ...] = ()  # the names of the [[pf]] rules for this host
    unused_rules: tuple[str, ...] = ()  # why each rule that applies to no PF does not; empty until the service is ready
    on_disk_active: bool | None = None  # whether the policy on disk is this one; None: not compared, or not readable
    trial_ends_at: float | None = None  # when the policy before it comes back, unless this one is confirmed


class GuestPhase(StrEnum):
    WAITING = "waiting"  # for its VFs, or for the next attempt
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"  # by QEMU after an error, or by hand
    STOPPING = "stopping"
    STOPPED = "stopped"  # by hand, or it ended; until it is started by hand or its rule changes
    FAILED = "failed"  # it cannot boot, or crashed too often


@frozen(slots=True)
class GuestStatus:
    """`detail`: why it is in this phase, if that is not obvious. `outdated`: it runs with an older rule.

    `vf_addresses`: the VFs that no other guest gets. `starts` are the agent's, `restarts` systemd's.
    """

    name: str
    phase: GuestPhase
    unit: str
    vfs: tuple[str, ...] = ()
    loader: str | None = None
    pid: int | None = None
    detail: str | None = None
    outdated: bool = False
    vf_addresses: tuple[str, ...] = ()
    starts: int = 0
    start_failures: int = 0
    restarts: int | None = None
    started_at: float | None = None
    until: str | None = None  # what ends its phase; None where nothing has to
    until_at: float | None = None  # when it is started again, in seconds since the epoch


PFS_DONE = (Phase.CONVERGED, Phase.UNMANAGED, Phase.RELEASED)
GUESTS_DONE = (GuestPhase.RUNNING, GuestPhase.STOPPED)


def _waits_for_vf(guest: GuestStatus) -> bool:
    """By itself, or behind a guest that does."""
    return guest.phase is GuestPhase.WAITING and guest.until in (GuestEndsBy.VF, GuestEndsBy.GUEST)


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
    bridges: tuple[str, ...] = ()  # what blocks the policy's bridges
    idle: bool = True  # no PF, guest or bridge is being reconciled, or is about to be

    @property
    def converged(self) -> bool:
        pfs_done = all(pf.phase in PFS_DONE for pf in self.pfs)
        guests_done = all(guest.phase in GUESTS_DONE for guest in self.guests)
        return not (self.policy.problems or self.bridges) and guests_done and pfs_done

    @property
    def only_deferred(self) -> bool:
        """Whether all that is not done waits for users of a PF or VF; then its guests wait for VFs, too."""
        pfs = [pf for pf in self.pfs if pf.phase not in PFS_DONE]
        guests = [guest for guest in self.guests if guest.phase not in GUESTS_DONE]
        deferred = bool(pfs) and all(pf.phase is Phase.DEFERRED for pf in pfs)
        return deferred and not (self.policy.problems or self.bridges) and all(map(_waits_for_vf, guests))
