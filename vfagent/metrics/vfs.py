# SPDX-License-Identifier: Apache-2.0
"""VFs: whether they are in use, and where they differ from the policy."""

from collections.abc import Iterator

from vfagent.metrics.client import Metric
from vfagent.metrics.families import Labels, SharedLabels, Sheet, gauge, label
from vfagent.metrics.view import View
from vfagent.model.status import VfStatus

INFO = gauge(
    "vf_info",
    "The VF; unknown labels are empty.",
    "pf",
    "vf",
    "pci_address",
    "netdev",
    "driver",
    "iommu_group",
    "mac",
    "vlan",
)
IN_USE = gauge("vf_in_use", "Whether the VF is in use, so that vfagent does not remove or change it.", "pf", "vf")
PHASE = gauge("vf_phase", "1 for the phase of the VF; the others are absent.", "pf", "vf", "phase")
DIFFERS = gauge("vf_differs", "1 for each attribute of the VF that differs from the policy.", "pf", "vf", "attribute")
NOT_ISOLATED = gauge(
    "vf_not_isolated",
    "1 for each attribute that isolates the VF by the policy and does not hold.",
    "pf",
    "vf",
    "attribute",
)

FAMILIES = (INFO, IN_USE, PHASE, DIFFERS, NOT_ISOLATED)


def collect(view: View) -> Iterator[Metric]:
    sheet = Sheet(FAMILIES)
    for pf in view.status.pfs:
        for vf in pf.vfs:
            _put_vf(sheet, vf, SharedLabels(pf.address, vf.index))
    yield from sheet.metrics()


def _put_vf(sheet: Sheet, vf: VfStatus, labels: Labels) -> None:
    mac, vlan = (vf.settings.mac, vf.settings.vlan) if vf.settings else (None, None)
    names = {
        "pci_address": vf.address,
        "netdev": label(vf.interface),
        "driver": label(vf.driver),
        "iommu_group": label(vf.iommu_group),
        "mac": label(mac),
        "vlan": "" if vlan is None else str(vlan.id),
    }
    sheet.put(INFO, 1, {**labels, **names})
    sheet.put(IN_USE, int(vf.in_use is not None), labels)
    sheet.put(PHASE, 1, {**labels, "phase": vf.phase.value})
    for family, attributes in ((DIFFERS, vf.differs), (NOT_ISOLATED, vf.not_isolated)):
        for name in attributes:
            sheet.put(family, 1, {**labels, "attribute": name})
