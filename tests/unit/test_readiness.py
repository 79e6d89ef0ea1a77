# SPDX-License-Identifier: Apache-2.0
"""Which PFs the service's READY waits for."""

import pytest

from vfagent.model.desired import DesiredPf
from vfagent.model.pci import PciAddress
from vfagent.pf_state import PfState
from vfagent.reconcile import Failure

BEGAN = 100.0
ADDRESS = PciAddress("0000:01:00.0")
STORAGE = DesiredPf(ADDRESS, "storage", 2, None, ())


def state(**facts: object) -> PfState:
    found = PfState(ADDRESS, known=True)
    for name, value in facts.items():
        setattr(found, name, value)
    return found


def waiting() -> PfState:
    return state(awaited=True, waiting_since=BEGAN)


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
    [state(), FAILING, state(desired=STORAGE), state(wedged=True)],
    ids=["nobody's", "failing", "converged", "wedged"],
)
def test_nothing_else_is(found: PfState) -> None:
    assert not found.unfinished(BEGAN, udev_busy_at=BEGAN)
