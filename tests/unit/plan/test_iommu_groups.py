# SPDX-License-Identifier: Apache-2.0
"""What blocks a VF from vfio in its IOMMU group."""

from vfagent.model.desired import DesiredVf
from vfagent.model.inventory import Vf
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import VfSettings
from vfagent.plan.iommu_groups import not_assignable

KEPT, OTHER = PciAddress("0000:a1:00.2"), PciAddress("0000:a1:00.3")


def blocked_by(kept: Vf) -> dict[int, str]:
    """Another VF is to go to vfio-pci, and this one in its group keeps its driver."""
    other = Vf(1, OTHER, "vfio-pci", iommu_group=12)
    return not_assignable(((kept, DesiredVf(0, "keep", VfSettings())), (other, DesiredVf(1, "vfio-pci", VfSettings()))))


def test_a_vf_that_keeps_a_vfio_driver_blocks_no_other_whatever_its_drivers_name() -> None:
    assert blocked_by(Vf(0, KEPT, "mlx5_vfio_pci", iommu_group=12)) == {}
    assert blocked_by(Vf(0, KEPT, "vendor_passthrough", iommu_group=12, vfio_dev=True)) == {}
    assert blocked_by(Vf(0, KEPT, None, iommu_group=12)) == {}


def test_a_vf_that_keeps_a_host_driver_blocks_the_others() -> None:
    assert blocked_by(Vf(0, KEPT, "iavf", iommu_group=12)) == {1: f"shares IOMMU group 12 with {KEPT}"}
