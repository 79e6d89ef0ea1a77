# SPDX-License-Identifier: Apache-2.0
"""PFs: desired and actual state, and phases."""

from vfagent.metrics.client import Metric
from vfagent.metrics.families import Labels, Sheet, gauge, label
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


def collect(view: View) -> list[Metric]:
    sheet = Sheet(FAMILIES)
    for pf in view.status.pfs:
        labels = {"pf": pf.address}
        _put_info(sheet, pf, labels)
        _put_numbers(sheet, pf, labels)
        for phase in Phase:
            sheet.put(PHASE, pf.phase is phase, {**labels, "phase": phase})
        for family, names in ((DIFFERS, pf.differs), (UNSUPPORTED, pf.unsupported)):
            for name in names:
                sheet.put(family, 1, {**labels, "attribute": str(name)})
    return sheet.metrics()


def _put_info(sheet: Sheet, pf: PfStatus, labels: Labels) -> None:
    names = {"netdev": pf.interface, "driver": pf.driver, "model": pf.model, "rule": pf.rule}
    sheet.put(INFO, 1, {**labels, **{name: label(value) for name, value in names.items()}})
    if pf.eswitch or pf.hwmode:
        sheet.put(MODE, 1, {**labels, "eswitch": label(pf.eswitch), "hwmode": label(pf.hwmode)})


def _put_numbers(sheet: Sheet, pf: PfStatus, labels: Labels) -> None:
    observed = pf.totalvfs is not None
    sheet.put(VFS_DESIRED, pf.vfs_desired, labels)
    sheet.put(VFS_ACTUAL, pf.vfs_actual if observed else None, labels)
    sheet.put(VFS_LIMIT, pf.totalvfs, labels)
    sheet.put(MTU, pf.mtu, labels)
    sheet.put(ADMIN_UP, pf.admin_up, labels)
    sheet.put(CARRIER, pf.carrier, labels)
    sheet.put(STUCK, pf.phase is Phase.STUCK, labels)
    sheet.put(WAITS_FOR_TURN, pf.waits_for_turn, labels)
    sheet.put(DEFERRED, len(pf.deferred), labels)
    sheet.put(PENDING, len(pf.pending_steps), labels)
    sheet.put(PROBLEMS, len(pf.problems), labels)
    sheet.put(FAILURES, pf.attempts, labels)
