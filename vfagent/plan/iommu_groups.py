# SPDX-License-Identifier: Apache-2.0
"""VFs that vfio cannot give to a guest because of what else is in their IOMMU group. Pure."""

from collections.abc import Iterable

from vfagent.model.desired import KEEP_DRIVER, NO_DRIVER, DesiredVf
from vfagent.model.evidence import VFIO_DRIVER, is_vfio
from vfagent.model.inventory import Vf
from vfagent.model.pci import PciAddress

_Groups = dict[int | None, dict[PciAddress, str]]  # IOMMU group -> VF -> desired driver


def not_assignable(pairs: Iterable[tuple[Vf, DesiredVf]]) -> dict[int, str]:
    """Why a VF cannot be assigned, by its index."""
    pairs = tuple(pairs)
    groups = _drivers_by_group(pairs)
    return {vf.index: reason for vf, wanted in pairs if (reason := _not_assignable(vf, wanted, groups))}


def _drivers_by_group(pairs: Iterable[tuple[Vf, DesiredVf]]) -> _Groups:
    groups: _Groups = {}
    for vf, wanted in pairs:
        kept = VFIO_DRIVER if vf.vfio_dev else vf.driver or NO_DRIVER
        driver = kept if wanted.driver == KEEP_DRIVER else wanted.driver
        groups.setdefault(vf.iommu_group, {})[vf.address] = driver
    return groups


def _not_assignable(vf: Vf, wanted: DesiredVf, groups: _Groups) -> str | None:
    """vfio needs the whole IOMMU group: any other device in it that has, or will have, a host driver blocks the VF."""
    if not is_vfio(wanted.driver):
        return None
    if vf.iommu_group is None:
        no_iommu_mode = is_vfio(vf.driver)  # enable_unsafe_noiommu_mode of vfio
        return None if no_iommu_mode else "has no IOMMU group (is the IOMMU on, as with intel_iommu=on?)"
    drivers = groups[vf.iommu_group]
    driven = {address for address, driver in drivers.items() if driver != NO_DRIVER and not is_vfio(driver)}
    others = sorted(driven | {address for address in vf.group_blockers if address not in drivers})
    return f"shares IOMMU group {vf.iommu_group} with {', '.join(others)}" if others else None
