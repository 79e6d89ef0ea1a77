# SPDX-License-Identifier: Apache-2.0
"""VFs that keep their driver: what vfagent itself leaves without one is bound again, and nothing else."""

from dataclasses import replace

from vfagent.model.desired import DesiredPf, DesiredVf
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Netdev, Pf, Vf
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import VfSettings
from vfagent.plan.planner import plan_pf
from vfagent.plan.vf import believed
from vfagent.reconcile.driver_state import before_steps
from vfagent.reconcile.reports import Observed

ADDRESS = PciAddress("0000:a1:00.0")
NETDEV = Netdev("ens1", 4, "02:00:00:00:a1:00", None, 1500, admin_up=True)
VFS = (
    Vf(0, PciAddress("0000:a1:00.2"), "vfio-pci", "vfio-pci", iommu_group=12),
    Vf(
        1,
        PciAddress("0000:a1:00.3"),
        "mlx5_core",
        enabled=True,
        iommu_group=13,
        netdevs=(replace(NETDEV, ifindex=5, admin_up=False),),
    ),
    Vf(2, PciAddress("0000:a1:00.4"), "vfio-pci", "vfio-pci", iommu_group=14),
    Vf(3, PciAddress("0000:a1:00.5"), iommu_group=15),
)
PF = Pf(
    ADDRESS, "mlx5_core", "0x15b3", "0x1021", "0x020000", 8, autoprobe=False, vfs=VFS, netdev=NETDEV, eswitch="legacy"
)
SWITCHDEV = DesiredPf(
    ADDRESS,
    "switch",
    numvfs=None,
    mtu=None,
    vfs=tuple(
        DesiredVf(index, driver, VfSettings()) for index, driver in enumerate(("keep", "keep", "vfio-pci", "keep"))
    ),
    eswitch="switchdev",
)
UNBOUND = {0: "vfio-pci", 1: "host"}


def stored(desired: DesiredPf, pf: Pf) -> DriverState:
    state = DriverState(pf.driver, pf.netdev.ifindex if pf.netdev else None)
    return before_steps(state, Observed(1, pf, desired, plan_pf(desired, pf, state)))


def test_the_drivers_of_vfs_that_are_unbound_for_the_eswitch_mode_are_stored_before() -> None:
    assert stored(SWITCHDEV, PF).unbound == UNBOUND


def test_new_vfs_are_stored_as_the_host_drivers() -> None:
    desired = replace(SWITCHDEV, numvfs=4, eswitch=None)
    assert stored(desired, replace(PF, vfs=())).unbound == {0: "host", 1: "host", 3: "host"}


def test_they_are_still_known_where_the_mode_change_replaced_the_netdev() -> None:
    after = replace(
        PF, netdev=replace(NETDEV, ifindex=9), vfs=tuple(replace(vf, driver=None, driver_override=None) for vf in VFS)
    )
    assert believed(stored(SWITCHDEV, PF).for_pf(after), after).unbound == UNBOUND


def test_a_vf_that_has_a_driver_or_was_taken_over_meanwhile_is_not_bound_again() -> None:
    taken = replace(VFS[0], driver=None, driver_override="mlx5_vfio_pci")
    after = replace(PF, vfs=(taken, VFS[1]))
    assert believed(stored(SWITCHDEV, PF), after).unbound == {}
