# SPDX-License-Identifier: Apache-2.0
"""`after` names guests that exist, and makes no circle."""

import pytest

from tests.unit.policy.conftest import Problems
from tests.unit.policy.test_guest_checks import DHCP, guest, key_problems


def named(name: str, vf: int, *after: str) -> str:
    return guest(f'vfs = ["storage:{vf}"]', DHCP, f"after = {list(after)}", name=name)


def test_an_order_is_accepted(problems: Problems) -> None:
    assert not key_problems(problems, named("a", 0, "b", "c"), named("b", 1, "c"), named("c", 2))


def test_a_guest_that_nothing_makes_is_refused(problems: Problems) -> None:
    lines = key_problems(problems, named("a", 0, "naz"), named("nas", 1))
    assert lines == ['guest[0].after[0]: found "naz", allowed is the name of another guest, did you mean "nas"?']


@pytest.mark.parametrize(
    ("guests", "circle"),
    [
        ([("a", "a")], '"a" after "a"'),
        ([("a", "b"), ("b", "a")], '"a" after "b" after "a"'),
        ([("a", "b"), ("b", "c"), ("c", "b")], '"b" after "c" after "b"'),
    ],
)
def test_a_circle_is_refused_once(problems: Problems, guests: list[tuple[str, str]], circle: str) -> None:
    (line,) = key_problems(problems, *(named(name, vf, other) for vf, (name, other) in enumerate(guests)))
    assert f"found a circle, {circle}: none of them would start, allowed is an order" in line


def test_guests_of_each_are_known_by_their_names(problems: Problems) -> None:
    several = guest('each = "storage:0-1"', DHCP, name="n{index}")
    assert not key_problems(problems, several, named("last", 2, "n0", "n1"))
    (line,) = key_problems(problems, several, named("last", 2, "n2"))
    assert line.startswith('guest[1].after[0]: found "n2", allowed is the name of another guest')
    first = guest('each = "storage:0-1"', DHCP, 'after = ["nas{index}"]', name="n{index}")
    (line,) = key_problems(problems, first, named("nas0", 2))
    assert line.startswith('guest[0].after[0]: found "nas1"')
