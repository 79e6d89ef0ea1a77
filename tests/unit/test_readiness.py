# SPDX-License-Identifier: Apache-2.0
"""Which PFs the service's READY waits for."""

import pytest

from vfagent.model.desired import DesiredPf
from vfagent.model.inventory import Netdev, Pf, Vf
from vfagent.model.pci import PciAddress
from vfagent.plan.steps import BindDriver
from vfagent.reconcile.pf_state import EndedStep, PfState
from vfagent.reconcile.reports import Failure

BEGAN = 100.0
ADDRESS = PciAddress("0000:01:00.0")
STORAGE = DesiredPf(ADDRESS, "storage", 2, None, ())


def state(**facts: object) -> PfState:
    found = PfState(ADDRESS, known=True)
    for name, value in facts.items():
        setattr(found, name, value)
    return found


def waiting() -> PfState:
    return state(rule_pending=True, waiting_since=BEGAN)


def test_a_pf_without_its_driver_is_waited_for_while_udev_is_at_work() -> None:
    assert waiting().unfinished(BEGAN + 60, udev_busy_at=BEGAN + 59)


def test_a_pf_without_its_driver_is_not_waited_for_when_udev_has_nothing_more_to_do() -> None:
    assert waiting().unfinished(BEGAN + 9, udev_busy_at=BEGAN)
    assert not waiting().unfinished(BEGAN + 60, udev_busy_at=BEGAN + 45)


FAILED_ONCE = state(desired=STORAGE, failures=(Failure("x", "x"),), attempts=1)
FAILING = state(desired=STORAGE, failures=(Failure("x", "x"),), attempts=2)


@pytest.mark.parametrize("found", [state(known=False), FAILED_ONCE], ids=["not looked at", "failed once"])
def test_what_may_yet_converge_is_waited_for(found: PfState) -> None:
    assert found.unfinished(BEGAN, udev_busy_at=BEGAN)


@pytest.mark.parametrize(
    "found",
    [state(), FAILING, state(desired=STORAGE), state(stuck=True)],
    ids=["nobody's", "failing", "converged", "stuck"],
)
def test_nothing_else_is(found: PfState) -> None:
    assert not found.unfinished(BEGAN, udev_busy_at=BEGAN)


def with_a_host_vf(*, netdev: bool) -> PfState:
    """Converged just now: its VF was bound to the host's driver at BEGAN."""
    interface = Netdev("ens1v0", 9, "52:54:00:00:00:01", None, 1500, admin_up=False)
    vf = Vf(0, PciAddress("0000:01:10.0"), driver="iavf", netdevs=(interface,) if netdev else ())
    pf = Pf(ADDRESS, "i40e", "0x8086", "0x1572", "0x020000", 8, autoprobe=False, vfs=(vf,))
    bound = EndedStep(BindDriver(ADDRESS, 0, None, None), BEGAN - 1, BEGAN)
    return state(desired=STORAGE, pf=pf, timeline=[bound])


def test_the_netdev_of_a_vf_that_the_host_drives_is_waited_for() -> None:
    assert with_a_host_vf(netdev=False).unfinished(BEGAN + 1, udev_busy_at=BEGAN)
    assert not with_a_host_vf(netdev=True).unfinished(BEGAN + 1, udev_busy_at=BEGAN)


def test_a_vf_that_never_shows_a_netdev_is_not_waited_for_long() -> None:
    assert not with_a_host_vf(netdev=False).unfinished(BEGAN + 30, udev_busy_at=BEGAN)
