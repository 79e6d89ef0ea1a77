# SPDX-License-Identifier: Apache-2.0
"""PFs: desired and actual state, and phases."""

from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from vfagent.metrics.families import Samples, gauge, label
from vfagent.metrics.view import View
from vfagent.model.status import PfStatus, Phase

INFO = gauge("pf_info", "The PF; unknown labels are empty.", "pf", "netdev", "driver", "model", "rule")
PHASE = gauge("pf_phase", "1 for the phase of the PF, 0 for the others.", "pf", "phase")
VFS_DESIRED = gauge("pf_vfs_desired", "VFs that the policy asks for; absent if it does not say.", "pf")
VFS_ACTUAL = gauge("pf_vfs_actual", "VFs that exist (sriov_numvfs).", "pf")
VFS_LIMIT = gauge("pf_vfs_limit", "VFs that the PF supports (sriov_totalvfs).", "pf")
MTU = gauge("pf_mtu_bytes", "The MTU of the PF's netdev.", "pf")
ADMIN_UP = gauge("pf_admin_up", "Whether the PF's netdev is set to up (IFF_UP).", "pf")
CARRIER = gauge("pf_carrier", "Whether the PF's netdev has a carrier.", "pf")
MODE = gauge(
    "pf_mode_info", "The modes of the PF's embedded switch; empty if the driver has none.", "pf", "eswitch", "hwmode"
)
STUCK = gauge("pf_stuck", "Whether a worker for this PF hangs in the kernel; vfagent retries when it ends.", "pf")
WAITS_FOR_TURN = gauge(
    "pf_waits_for_turn",
    "Whether the PF waits to create or remove VFs, because the kernel has one lock for that and another PF has it.",
    "pf",
)
DEFERRED = gauge("pf_deferred_changes", "Changes deferred until a VF is no longer in use.", "pf")
PENDING = gauge("pf_pending_steps", "Steps planned and not executed yet.", "pf")
PROBLEMS = gauge("pf_problems", "Settings of the policy that this PF cannot have.", "pf")
FAILURES = gauge("pf_consecutive_failures", "Failed attempts to reconcile the PF since the last success.", "pf")
DIFFERS = gauge("pf_differs", "1 for each attribute of the PF that differs from the policy.", "pf", "attribute")
UNSUPPORTED = gauge(
    "pf_unsupported",
    "1 for each VF attribute that the PF's driver does not support, so that it is not set.",
    "pf",
    "attribute",
)

FAMILIES = (
    INFO,
    PHASE,
    VFS_DESIRED,
    VFS_ACTUAL,
    VFS_LIMIT,
    MTU,
    ADMIN_UP,
    CARRIER,
    MODE,
    STUCK,
    WAITS_FOR_TURN,
    DEFERRED,
    PENDING,
    PROBLEMS,
    FAILURES,
    DIFFERS,
    UNSUPPORTED,
)


def collect(view: View) -> Iterator[Metric]:
    samples = Samples(FAMILIES)
    for pf in view.status.pfs:
        _add_info(samples, pf)
        _add_numbers(samples, pf)
        for phase in Phase:
            samples.add(PHASE, pf.phase is phase, pf.address, phase)
        for family, names in ((DIFFERS, pf.differs), (UNSUPPORTED, pf.unsupported)):
            for name in names:
                samples.add(family, 1, pf.address, str(name))
    return samples.metrics()


def _add_info(samples: Samples, pf: PfStatus) -> None:
    samples.add(INFO, 1, pf.address, *map(label, (pf.interface, pf.driver, pf.model, pf.rule)))
    if pf.eswitch or pf.hwmode:
        samples.add(MODE, 1, pf.address, label(pf.eswitch), label(pf.hwmode))


def _add_numbers(samples: Samples, pf: PfStatus) -> None:
    observed = pf.totalvfs is not None
    samples.add(VFS_DESIRED, pf.vfs_desired, pf.address)
    samples.add(VFS_ACTUAL, pf.vfs_actual if observed else None, pf.address)
    samples.add(VFS_LIMIT, pf.totalvfs, pf.address)
    samples.add(MTU, pf.mtu, pf.address)
    samples.add(ADMIN_UP, pf.admin_up, pf.address)
    samples.add(CARRIER, pf.carrier, pf.address)
    samples.add(STUCK, pf.phase is Phase.STUCK, pf.address)
    samples.add(WAITS_FOR_TURN, pf.waits_for_turn, pf.address)
    samples.add(DEFERRED, len(pf.deferred), pf.address)
    samples.add(PENDING, len(pf.pending_steps), pf.address)
    samples.add(PROBLEMS, len(pf.problems), pf.address)
    samples.add(FAILURES, pf.attempts, pf.address)
