# SPDX-License-Identifier: Apache-2.0
"""VFs: what they are, whether somebody uses them, where they differ from the policy, and what they carried."""

from collections.abc import Iterator

from vfagent.host.vf_counters import VfCounters
from vfagent.metrics.client import Metric
from vfagent.metrics.families import Labels, SharedLabels, Sheet, counter, gauge, label
from vfagent.metrics.view import View
from vfagent.status import VfStatus

INFO = gauge(
    "vf_info",
    "What the VF is; labels are empty where nothing is known.",
    "pf",
    "vf",
    "pci_address",
    "netdev",
    "driver",
    "iommu_group",
    "mac",
    "vlan",
)
IN_USE = gauge("vf_in_use", "Whether somebody uses the VF, so that it must not be taken away.", "pf", "vf")
PHASE = gauge("vf_phase", "1 for the phase that the VF is in; the others are absent.", "pf", "vf", "phase")
DIFFERS = gauge(
    "vf_differs", "1 for each attribute of the VF that is not what the policy says.", "pf", "vf", "attribute"
)

_DIRECTIONS = {"rx": ("receive", "received by"), "tx": ("transmit", "sent by")}
TRAFFIC = {
    **{
        f"{way}_{what}": counter(
            f"vf_{word}_{what}", f"{what.capitalize()} {done} the VF, as its PF counts them.", "pf", "vf"
        )
        for way, (word, done) in _DIRECTIONS.items()
        for what in ("bytes", "packets")
    },
    **{
        f"{way}_dropped": counter(
            f"vf_{word}_dropped_packets", f"Packets that were to be {done} the VF and were dropped.", "pf", "vf"
        )
        for way, (word, done) in _DIRECTIONS.items()
    },
    "broadcast": counter("vf_receive_broadcast_packets", "Broadcast packets received by the VF.", "pf", "vf"),
    "multicast": counter("vf_receive_multicast_packets", "Multicast packets received by the VF.", "pf", "vf"),
}

FACTS = (INFO, IN_USE, PHASE, DIFFERS)
FAMILIES = (*FACTS, *TRAFFIC.values())


def collect(view: View) -> Iterator[Metric]:
    labelled = [(pf.address, vf, SharedLabels(pf.address, vf.index)) for pf in view.status.pfs for vf in pf.vfs]
    sheet = Sheet(FACTS)
    for _, vf, labels in labelled:
        _put_vf(sheet, vf, labels)
    yield from sheet.metrics()
    none: dict[int, VfCounters] = {}
    counted = [
        (found, labels)
        for pf, vf, labels in labelled
        if (found := view.traffic.get(pf, none).get(vf.index)) is not None
    ]
    for name, family in TRAFFIC.items():
        sheet = Sheet((family,))
        sheet.put_each(family, ((labels, getattr(found, name)) for found, labels in counted))
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
    for name in vf.differs:
        sheet.put(DIFFERS, 1, {**labels, "attribute": name})
