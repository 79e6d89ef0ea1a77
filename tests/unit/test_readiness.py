# SPDX-License-Identifier: Apache-2.0
"""The PFs that READY and guests wait for."""

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.states import pf_state
from vfagent.guests.state import managed_pf
from vfagent.model.desired import DesiredPf
from vfagent.model.inventory import Netdev, Pf, Vf
from vfagent.model.numvfs_lock import KernelBusy
from vfagent.model.pci import PciAddress
from vfagent.model.status import Phase
from vfagent.plan.planner import Plan
from vfagent.plan.steps import BindDriver
from vfagent.reconcile.pf_state import EndedStep, PfState, Work
from vfagent.reconcile.reports import Failure

BEGAN = 100.0
ADDRESS = PciAddress("0000:01:00.0")
STORAGE = DesiredPf(ADDRESS, "storage", 2, None, ())


def state(**facts: Any) -> PfState:
    return pf_state(ADDRESS, **facts)


def waiting() -> PfState:
    return state(rule_pending=True, waiting_since=BEGAN)


def test_ready_waits_for_a_pf_without_a_driver_while_udev_is_busy() -> None:
    assert waiting().unfinished(BEGAN + 60, udev_busy_at=BEGAN + 59)


def test_ready_does_not_wait_for_a_pf_without_a_driver_once_udev_is_idle() -> None:
    assert waiting().unfinished(BEGAN + 9, udev_busy_at=BEGAN)
    assert not waiting().unfinished(BEGAN + 60, udev_busy_at=BEGAN + 45)


@pytest.mark.parametrize("pending", [True, False])
def test_ready_waits_for_a_netdev_until_its_grace_is_over(*, pending: bool) -> None:
    """Then the PF gets its VFs without it, and READY waits for these."""
    nic = Pf(ADDRESS, "igb", "0x8086", "0x10c9", "0x020000", 8, autoprobe=False, netdev_pending=pending)
    pf = state(desired=STORAGE, pf=nic, plan=Plan(waiting=("x",)), waiting_since=BEGAN)
    assert pf.unfinished(BEGAN + 60, udev_busy_at=BEGAN) is pending


@pytest.mark.parametrize("facts", [{"netdev_away": True}, {"driver": "igb_uio"}])
def test_ready_does_not_wait_for_a_pf_that_somebody_has_on_purpose(facts: dict[str, object]) -> None:
    nic = Pf(ADDRESS, "igb", "0x8086", "0x10c9", "0x020000", 8, autoprobe=False)
    pf = state(desired=STORAGE, pf=replace(nic, **facts), plan=Plan(waiting=("x",)), waiting_since=BEGAN)  # type: ignore[arg-type]
    assert not pf.unfinished(BEGAN + 1, udev_busy_at=BEGAN)


FAILED_ONCE = state(desired=STORAGE, failures=(Failure("x", "x"),), attempts=1)
FAILING = state(desired=STORAGE, failures=(Failure("x", "x"),), attempts=2)


@pytest.mark.parametrize("pf", [state(known=False), FAILED_ONCE], ids=["not observed", "failed once"])
def test_ready_waits_for_a_pf_that_may_still_converge(pf: PfState) -> None:
    assert pf.unfinished(BEGAN, udev_busy_at=BEGAN)


@pytest.mark.parametrize(
    "pf",
    [state(), FAILING, state(desired=STORAGE), state(work=Work.STUCK)],
    ids=["unmanaged", "failing", "converged", "stuck"],
)
def test_ready_waits_for_no_other_pf(pf: PfState) -> None:
    assert not pf.unfinished(BEGAN, udev_busy_at=BEGAN)


@pytest.mark.parametrize("hangs", [False, True])
def test_ready_waits_for_a_pf_that_waits_for_its_turn_but_not_behind_a_stuck_one(*, hangs: bool) -> None:
    pf = state(desired=STORAGE, kernel_busy=KernelBusy("the kernel is busy", hangs=hangs))
    assert pf.phase is Phase.WAITING
    assert pf.unfinished(BEGAN + 200, udev_busy_at=BEGAN) is not hangs


def with_a_host_vf(*, netdev: bool) -> PfState:
    """A converged PF, whose VF was bound to the host's driver at BEGAN."""
    interface = Netdev("ens1v0", 9, "52:54:00:00:00:01", None, 1500, admin_up=False)
    vf = Vf(0, PciAddress("0000:01:10.0"), driver="iavf", netdevs=(interface,) if netdev else ())
    pf = Pf(ADDRESS, "i40e", "0x8086", "0x1572", "0x020000", 8, autoprobe=False, vfs=(vf,))
    bound = EndedStep(BindDriver(ADDRESS, 0, None, None), BEGAN - 1, BEGAN)
    return state(desired=STORAGE, pf=pf, timeline=[bound])


def test_ready_waits_for_the_netdev_of_a_vf_of_the_host() -> None:
    assert with_a_host_vf(netdev=False).unfinished(BEGAN + 1, udev_busy_at=BEGAN)
    assert not with_a_host_vf(netdev=True).unfinished(BEGAN + 1, udev_busy_at=BEGAN)


def test_ready_does_not_wait_long_for_a_vf_without_a_netdev() -> None:
    assert not with_a_host_vf(netdev=False).unfinished(BEGAN + 30, udev_busy_at=BEGAN)


def test_the_guests_of_a_pf_that_waits_for_its_turn_say_for_whom() -> None:
    pf = Pf(ADDRESS, "igb", "0x8086", "0x10c9", "0x020000", 8, autoprobe=False)
    managed = managed_pf(state(desired=STORAGE, pf=pf, kernel_busy=KernelBusy("the kernel is busy", hangs=True)))
    assert managed is not None
    assert managed.trouble == "its PF waits: the kernel is busy"
