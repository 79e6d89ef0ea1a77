# SPDX-License-Identifier: Apache-2.0
"""VFs that vfio cannot give to a guest because of what else is in their IOMMU group. Pure."""

from collections.abc import Iterable

from vfagent.model.desired import KEEP_DRIVER, NO_DRIVER, DesiredPf, DesiredVf
from vfagent.model.evidence import VFIO_DRIVER, is_vfio
from vfagent.model.inventory import Pf, SharedGroup, Vf
from vfagent.model.pci import PciAddress
from vfagent.plan.vf import Problem

_Groups = dict[int | None, dict[PciAddress, str]]  # IOMMU group -> VF -> desired driver


def will_share(pf: Pf, wanted: DesiredVf) -> bool:
    """Whether vfio will not give a VF that does not exist yet to a guest, so that there is no point in binding it."""
    return pf.shared_group is not None and is_vfio(wanted.driver)


def sharing_ahead(desired: DesiredPf, pf: Pf) -> tuple[Problem, ...]:
    """Said once for all VFs that do not exist yet."""
    shared, vfs = pf.shared_group, [vf.index for vf in desired.vfs if will_share(pf, vf)]
    if shared is None or not vfs:
        return ()
    text = (
        f"{shared.port}, the port above the card, has no ACS: VFs will share IOMMU group {shared.number} with "
        f"{', '.join(shared.users)}, and vfio cannot give them to guests (see vfagent doctor)"
    )
    return (Problem(text),)


def not_assignable(pairs: Iterable[tuple[Vf, DesiredVf]], shared: SharedGroup | None = None) -> dict[int, str]:
    """Why a VF cannot be assigned, by its index."""
    pairs = tuple(pairs)
    groups = _drivers_by_group(pairs)
    reasons = ((vf, reason) for vf, wanted in pairs if (reason := _not_assignable(vf, wanted, groups)))
    cause = f": {shared.port}, the port above the card, has no ACS" if shared else ""
    return {vf.index: reason + (cause if shared and vf.iommu_group == shared.number else "") for vf, reason in reasons}


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
