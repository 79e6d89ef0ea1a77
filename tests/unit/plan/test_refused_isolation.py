# SPDX-License-Identifier: Apache-2.0
"""Isolation that the driver refuses: what is a problem of which VF, and what is done to its driver all the same."""

from dataclasses import replace

from vfagent.model.desired import DesiredPf, DesiredVf
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Netdev, Pf, Vf
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import Attribute, VfSettings
from vfagent.plan.planner import plan_pf
from vfagent.plan.steps import UnbindDriver

ADDRESS = PciAddress("0000:a1:00.0")
NETDEV = Netdev("ens1", 4, "02:00:00:00:a1:00", None, 1500, admin_up=True)
VFS = (
    Vf(0, PciAddress("0000:a1:00.2"), "vfio-pci", "vfio-pci", iommu_group=12),
    Vf(1, PciAddress("0000:a1:00.3"), "vfio-pci", "vfio-pci", iommu_group=13),
)
PF = Pf(ADDRESS, "silent", "0x8086", "0x1521", "0x020000", 8, autoprobe=False, vfs=VFS, netdev=NETDEV)
NOT_TRUSTED = VfSettings(trust=False)
REFUSES_TRUST = DriverState("silent", 4, unsupported={Attribute.TRUST: "EOPNOTSUPP"})


def desired(*drivers: str) -> DesiredPf:
    vfs = tuple(DesiredVf(index, driver, NOT_TRUSTED) for index, driver in enumerate(drivers))
    return DesiredPf(ADDRESS, "tenants", 2, None, vfs)


def test_what_was_set_before_the_driver_refused_it_holds_where_the_driver_does_not_report_it() -> None:
    state = replace(REFUSES_TRUST, applied={0: NOT_TRUSTED})
    assert [problem.vf for problem in plan_pf(desired("vfio-pci", "vfio-pci"), PF, state).problems] == [1]


def test_a_vf_that_is_to_have_no_driver_is_unbound_without_its_isolation_too() -> None:
    plan = plan_pf(desired("none", "vfio-pci"), PF, REFUSES_TRUST)
    assert [planned.step for planned in plan.steps] == [UnbindDriver(ADDRESS, 0, VFS[0].address)]
