# SPDX-License-Identifier: Apache-2.0
"""Suspended steps: what is planned when the eswitch mode cannot be changed."""

from vfagent.model.desired import DesiredPf, DesiredVf
from vfagent.model.driver_state import DriverState, StepResult
from vfagent.model.evidence import VFIO_DRIVER
from vfagent.model.inventory import Pf, Vf
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import Attribute, VfSettings
from vfagent.plan.network_steps import SetEswitch
from vfagent.plan.planner import plan_pf
from vfagent.plan.steps import BindDriver
from vfagent.plan.vf import Planned
from vfagent.reconcile.driver_state import record_result
from vfagent.reconcile.rounds import Suspended

PF = PciAddress("0000:3b:00.0")
VF = Vf(0, PciAddress("0000:3b:00.2"), iommu_group=30)
CARD = Pf(PF, "mlx5_core", "0x15b3", "0x1017", "0x120000", 8, autoprobe=False, vfs=(VF,), eswitch="legacy")
WANTED = DesiredPf(PF, "storage", 1, None, (DesiredVf(0, VFIO_DRIVER, VfSettings()),), eswitch="switchdev")


def test_vfs_unbound_for_a_refused_eswitch_mode_are_bound_again() -> None:
    first = plan_pf(WANTED, CARD, DriverState())
    assert [planned.step for planned in first.steps] == [SetEswitch(PF, "switchdev")]
    second = plan_pf(WANTED, CARD, DriverState(), first.steps)
    assert [planned.step for planned in second.steps] == [BindDriver(PF, 0, VF.address, VFIO_DRIVER)]
    assert tuple(map(str, second.problems)) == ("eswitch switchdev could not be set",)


def test_a_suspended_plan_covers_itself_and_its_remaining_steps() -> None:
    """A step before the failing one may succeed each time: a VLAN interface that exists by another name."""
    done = Planned(BindDriver(PF, 0, VF.address, VFIO_DRIVER), "found no driver")
    failing = Planned(SetEswitch(PF, "switchdev"), "found legacy")
    suspended = Suspended(remaining=(failing,), plan=(done, failing))
    assert suspended.covers((done, failing))
    assert suspended.covers((failing,))
    assert not suspended.covers((done,))
    assert not suspended.covers(())


def test_an_attribute_refused_in_one_eswitch_mode_is_tried_in_the_other() -> None:
    driver_state = DriverState(unsupported={Attribute.VLAN: "EOPNOTSUPP (Operation not supported)"})
    assert record_result(driver_state, SetEswitch(PF, "legacy"), StepResult()).unsupported == {}
