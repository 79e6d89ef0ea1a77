# SPDX-License-Identifier: Apache-2.0
"""Which isolation each VF is without: for status, metrics and doctor."""

from dataclasses import replace

import pytest

from vfagent.model.desired import DesiredPf, DesiredVf
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Netdev, Pf, Vf
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import Attribute, LinkState, Rate, VfSettings, Vlan
from vfagent.plan.isolation import not_isolated
from vfagent.plan.planner import plan_pf

PF = PciAddress("0000:3b:00.0")
HOLDS = VfSettings("52:54:00:00:00:01", Vlan(10), Rate(0, 0), spoof_check=True, trust=False, link_state=LinkState.AUTO)


def lacking(
    present: VfSettings, wanted: VfSettings, *, refused: bool = False, used: bool = False, optional: str = ""
) -> tuple[str, ...]:
    netdev = Netdev("ens1", 3, "02:00:00:00:00:00", None, 1500, admin_up=True)
    vf = Vf(0, PciAddress("0000:3b:02.0"), "vfio-pci", "vfio-pci", enabled=used, iommu_group=5, settings=present)
    pf = Pf(PF, "igb", "0x8086", "0x10c9", "0x020000", 7, autoprobe=False, vfs=(vf,), netdev=netdev)
    desired = DesiredPf(PF, "a", 1, None, (DesiredVf(0, "vfio-pci", wanted, optional=tuple(optional.split())),))
    answers = dict.fromkeys(Attribute, "EOPNOTSUPP") if refused else {}
    plan = plan_pf(desired, pf, DriverState(unsupported=answers))
    assert bool(plan.deferred) == (used and not refused and present != wanted)
    steps = (*(planned.step for planned in plan.steps), *(deferred.step for deferred in plan.deferred))
    return not_isolated(desired, pf, steps, plan.problems).get(0, ())


DRIFTED = replace(HOLDS, mac="52:54:00:00:00:02", vlan=Vlan(7), spoof_check=False, trust=True)


@pytest.mark.parametrize(("refused", "used"), [(False, False), (True, False), (False, True), (True, True)])
def test_isolation_that_is_pending_or_refused_or_blocked_by_a_user_is_missing(*, refused: bool, used: bool) -> None:
    assert lacking(DRIFTED, HOLDS, refused=refused, used=used) == ("mac", "spoof_check", "trust", "vlan")
    assert lacking(HOLDS, HOLDS, refused=refused, used=used) == ()


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (VfSettings(vlan=Vlan(0)), ("vlan",)),
        (VfSettings(vlan=Vlan(7, 3)), ("vlan",)),
        (VfSettings(spoof_check=False, trust=True), ()),
        (VfSettings(rate=Rate(0, 100), link_state=LinkState.ENABLE), ()),
    ],
)
def test_rates_and_what_takes_isolation_away_are_not_missing(wanted: VfSettings, names: tuple[str, ...]) -> None:
    present = replace(DRIFTED, spoof_check=True, trust=False)
    assert lacking(present, wanted) == names
    assert lacking(present, wanted, refused=True) == names


def test_optional_isolation_is_not_missing() -> None:
    assert lacking(DRIFTED, HOLDS, refused=True, optional="vlan trust") == ("mac", "spoof_check")
