# SPDX-License-Identifier: Apache-2.0
"""VFs: whether they are in use, and where they differ from the policy."""

from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from vfagent.metrics.families import Samples, gauge, label
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
    samples = Samples(FAMILIES)
    for pf in view.status.pfs:
        for vf in pf.vfs:
            _add_vf(samples, vf, pf.address)
    return samples.metrics()


def _add_vf(samples: Samples, vf: VfStatus, pf: str) -> None:
    mac, vlan = (vf.settings.mac, vf.settings.vlan) if vf.settings else (None, None)
    index = str(vf.index)
    names = (vf.interface, vf.driver, vf.iommu_group, mac, vlan.id if vlan else None)
    samples.add(INFO, 1, pf, index, vf.address, *map(label, names))
    samples.add(IN_USE, vf.in_use is not None, pf, index)
    samples.add(PHASE, 1, pf, index, vf.phase)
    for family, attributes in ((DIFFERS, vf.differs), (NOT_ISOLATED, vf.not_isolated)):
        for name in attributes:
            samples.add(family, 1, pf, index, name)
