# SPDX-License-Identifier: Apache-2.0
"""What is planned when the card's switch would not take its other mode."""

from vfagent.model.desired import DesiredPf, DesiredVf
from vfagent.model.driver_state import DriverState, StepResult
from vfagent.model.inventory import VFIO_DRIVER, Pf, Vf
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import Attribute, VfSettings
from vfagent.plan.planner import plan_pf
from vfagent.plan.steps import BindDriver, SetEswitch
from vfagent.plan.vf import Planned
from vfagent.reconcile.driver_state import record_result
from vfagent.reconcile.rounds import Suspended

PF = PciAddress("0000:3b:00.0")
VF = Vf(0, PciAddress("0000:3b:00.2"), iommu_group=30)
CARD = Pf(PF, "mlx5_core", "0x15b3", "0x1017", "0x120000", 8, autoprobe=False, vfs=(VF,), eswitch="legacy")
WANTED = DesiredPf(PF, "storage", 1, None, (DesiredVf(0, VFIO_DRIVER, VfSettings()),), eswitch="switchdev")


def test_vfs_that_lost_their_driver_for_a_mode_that_was_refused_get_it_back() -> None:
    first = plan_pf(WANTED, CARD, DriverState())
    assert [one.step for one in first.steps] == [SetEswitch(PF, "switchdev")]
    then = plan_pf(WANTED, CARD, DriverState(), first.steps)
    assert [one.step for one in then.steps] == [BindDriver(PF, 0, VF.address, VFIO_DRIVER)]
    assert tuple(map(str, then.problems)) == ("eswitch switchdev could not be set",)


def test_a_plan_that_was_given_up_is_known_whole_and_by_what_is_left_of_it() -> None:
    """A step before the bad one may count as done each time: a VLAN device that is there by another name."""
    done = Planned(BindDriver(PF, 0, VF.address, VFIO_DRIVER), "found no driver")
    bad = Planned(SetEswitch(PF, "switchdev"), "found legacy")
    suspended = Suspended(remaining=(bad,), plan=(done, bad))
    assert suspended.covers((done, bad))
    assert suspended.covers((bad,))
    assert not suspended.covers((done,))
    assert not suspended.covers(())


def test_what_a_driver_refused_in_one_mode_is_asked_for_again_in_the_other() -> None:
    driver_state = DriverState(unsupported=frozenset({Attribute.VLAN}))
    assert record_result(driver_state, SetEswitch(PF, "legacy"), StepResult()).unsupported == frozenset()
