# SPDX-License-Identifier: Apache-2.0
"""driver = "host": whatever holds a VF without making anything of it for the host gives it back."""

import pytest

from vfagent.model.desired import HOST_DRIVER, NO_DRIVER, driver_word
from vfagent.model.inventory import Pf, Vf
from vfagent.model.pci import PciAddress
from vfagent.plan.steps import BindDriver
from vfagent.plan.vf import Planned, plan_driver

ADDRESS, VF = PciAddress("0000:a1:00.0"), PciAddress("0000:a1:00.2")
PF = Pf(ADDRESS, "igb", "0x8086", "0x1521", "0x020000", 8, autoprobe=False)


@pytest.mark.parametrize("driver", ["pci-stub", "uio_pci_generic", "igb_uio", "vfio-pci", "mlx5_vfio_pci", None])
def test_a_vf_that_serves_nobody_on_the_host_goes_to_its_host_driver(driver: str | None) -> None:
    planned = plan_driver(PF, Vf(0, VF, driver, driver, iommu_group=1, shown_idle=True), HOST_DRIVER)
    assert isinstance(planned, Planned)
    assert planned.step == BindDriver(ADDRESS, 0, VF, None)


@pytest.mark.parametrize("driver", ["igbvf", "mlx5_core"])
def test_a_vf_on_a_host_driver_stays_on_it(driver: str) -> None:
    assert plan_driver(PF, Vf(0, VF, driver, iommu_group=1), HOST_DRIVER) is None


@pytest.mark.parametrize(
    ("driver", "override", "word"),
    [
        ("igbvf", None, HOST_DRIVER),
        ("igbvf", "igbvf", "igbvf"),
        ("vfio-pci", "vfio-pci", "vfio-pci"),
        ("pci-stub", None, "pci-stub"),
        (None, None, NO_DRIVER),
    ],
)
def test_a_driver_that_came_by_an_override_comes_back_by_one(
    driver: str | None, override: str | None, word: str
) -> None:
    assert driver_word(Vf(0, VF, driver, override)) == word
