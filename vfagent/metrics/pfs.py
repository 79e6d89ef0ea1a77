# SPDX-License-Identifier: Apache-2.0
"""PFs: what they are, what is wanted of them and what was found."""

from vfagent.metrics.client import Metric
from vfagent.metrics.families import Labels, Sheet, gauge, label
from vfagent.metrics.view import View
from vfagent.model.status import PfStatus, Phase

INFO = gauge(
    "pf_info", "What the PF is; labels are empty where nothing is known.", "pf", "netdev", "driver", "model", "rule"
)
PHASE = gauge("pf_phase", "1 for the phase that the PF is in, 0 for the others.", "pf", "phase")
VFS_DESIRED = gauge("pf_vfs_desired", "How many VFs the policy wants; absent where it does not say.", "pf")
VFS_ACTUAL = gauge("pf_vfs_actual", "How many VFs there are.", "pf")
VFS_LIMIT = gauge("pf_vfs_limit", "How many VFs the card can have (sriov_totalvfs).", "pf")
MTU = gauge("pf_mtu_bytes", "The MTU of the PF's netdev.", "pf")
ADMIN_UP = gauge("pf_admin_up", "Whether the PF's netdev is set up.", "pf")
CARRIER = gauge("pf_carrier", "Whether the PF's netdev has a link.", "pf")
MODE = gauge(
    "pf_mode_info", "The modes of the card's switch; empty where the driver has none.", "pf", "eswitch", "hwmode"
)
STUCK = gauge("pf_stuck", "Whether a worker hangs in the kernel over this PF, which is left alone until it ends.", "pf")
DEFERRED = gauge("pf_deferred_changes", "Changes that wait, because they would disturb somebody.", "pf")
PENDING = gauge("pf_pending_steps", "Steps that are to be done next.", "pf")
PROBLEMS = gauge("pf_problems", "What the policy asks for and this PF cannot have.", "pf")
FAILURES = gauge("pf_consecutive_failures", "Looks in a row that ended in a failure.", "pf")
DIFFERS = gauge("pf_differs", "1 for each attribute of the PF that is not what the policy says.", "pf", "attribute")
UNSUPPORTED = gauge(
    "pf_unsupported",
    "1 for each VF attribute that the PF's driver refused for good, and is not asked for.",
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
        _put_what_it_is(sheet, pf, labels)
        _put_numbers(sheet, pf, labels)
        for phase in Phase:
            sheet.put(PHASE, pf.phase is phase, {**labels, "phase": phase})
        for family, names in ((DIFFERS, pf.differs), (UNSUPPORTED, pf.unsupported)):
            for name in names:
                sheet.put(family, 1, {**labels, "attribute": str(name)})
    return sheet.metrics()


def _put_what_it_is(sheet: Sheet, pf: PfStatus, labels: Labels) -> None:
    names = {"netdev": pf.interface, "driver": pf.driver, "model": pf.model, "rule": pf.rule}
    sheet.put(INFO, 1, {**labels, **{name: label(value) for name, value in names.items()}})
    if pf.eswitch or pf.hwmode:
        sheet.put(MODE, 1, {**labels, "eswitch": label(pf.eswitch), "hwmode": label(pf.hwmode)})


def _put_numbers(sheet: Sheet, pf: PfStatus, labels: Labels) -> None:
    reconciled_at = pf.totalvfs is not None
    sheet.put(VFS_DESIRED, pf.vfs_desired, labels)
    sheet.put(VFS_ACTUAL, pf.vfs_actual if reconciled_at else None, labels)
    sheet.put(VFS_LIMIT, pf.totalvfs, labels)
    sheet.put(MTU, pf.mtu, labels)
    sheet.put(ADMIN_UP, pf.admin_up, labels)
    sheet.put(CARRIER, pf.carrier, labels)
    sheet.put(STUCK, pf.phase is Phase.STUCK, labels)
    sheet.put(DEFERRED, len(pf.deferred), labels)
    sheet.put(PENDING, len(pf.pending_steps), labels)
    sheet.put(PROBLEMS, len(pf.problems), labels)
    sheet.put(FAILURES, pf.attempts, labels)
