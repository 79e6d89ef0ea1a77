# SPDX-License-Identifier: Apache-2.0
"""That vfagent set a PF up is remembered, for what the PF then takes from routers."""

from dataclasses import replace

from vfagent.model.driver_state import DriverState, StepResult
from vfagent.model.inventory import Netdev, Pf
from vfagent.model.pci import PciAddress
from vfagent.plan.steps import SetAdminState
from vfagent.reconcile.driver_state import record_result

ADDRESS = PciAddress("0000:01:00.0")
NETDEV = Netdev("eth0", 2, "00:1b:21:aa:bb:00", None, 1500, admin_up=True)
PF = Pf(ADDRESS, "igb", "0x8086", "0x10c9", "0x020000", 7, autoprobe=True, netdev=NETDEV)


def test_it_is_known_while_the_port_is_the_same() -> None:
    before = DriverState(driver="igb", ifindex=2)
    up = record_result(before, SetAdminState(ADDRESS, 2, up=True), StepResult())
    assert up.for_pf(PF).brought_up
    assert not up.for_pf(replace(PF, netdev=replace(NETDEV, ifindex=3))).brought_up
    assert not record_result(up, SetAdminState(ADDRESS, 2, up=False), StepResult()).brought_up
