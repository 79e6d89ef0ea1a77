# SPDX-License-Identifier: Apache-2.0
import pickle
from dataclasses import dataclass, field, fields, replace

import pytest

from vfagent.frozen import frozen


@frozen(slots=True)
class Vf:
    """Of several fields, one of which does not count."""

    pf: str
    index: int = 0
    found: tuple[str, ...] = field(default=(), compare=False)


@frozen
class Named:
    """Of one field, which another class has too."""

    name: str


@frozen
class AlsoNamed:
    """Of one field, which another class has too."""

    name: str


@frozen
class Nothing:
    """Of no field."""


@frozen(kw_only=True)
class Rule(Named):
    """Of a field that it inherits, and one that is given by name."""

    vlan: int = 1


def test_the_same_values_are_the_same_and_have_one_place_in_a_set() -> None:
    assert Vf("a", 1) == Vf("a", 1)
    assert Rule("a", vlan=2) == Rule("a", vlan=2)
    assert {Vf("a", 1), Vf("a", 1), Vf("a", 2)} == {Vf("a", 1), Vf("a", 2)}
    assert {Nothing(), Nothing()} == {Nothing()}


def test_another_value_or_another_class_is_another() -> None:
    assert Vf("a", 1) != Vf("a", 2)
    assert Rule("a", vlan=2) != Rule("b", vlan=2)
    others: list[object] = [AlsoNamed("a"), Rule("a"), "a"]
    assert Named("a") not in others


def test_what_is_not_compared_makes_no_difference() -> None:
    assert Vf("a", 1, ("x",)) == Vf("a", 1)
    assert hash(Vf("a", 1, ("x",))) == hash(Vf("a", 1))


def test_it_reads_as_a_dataclass_does() -> None:
    @dataclass(frozen=True)
    class Usual:
        """As Python makes it."""

        name: str
        vlan: int

    usual = repr(Usual("a", 2)).replace("Usual", "Rule").rpartition(".")[2]
    assert repr(Rule("a", vlan=2)) == usual


@pytest.mark.parametrize("value", [Vf("a", 1, ("x",)), Named("a"), Rule("a", vlan=3), Nothing()])
def test_it_comes_through_a_pipe_as_it_was(value: object) -> None:
    there = pickle.loads(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
    assert there == value
    assert repr(there) == repr(value)


def test_it_is_a_dataclass_to_whoever_asks() -> None:
    assert [one.name for one in fields(Rule("a"))] == ["name", "vlan"]
    assert replace(Vf("a", 1), index=2) == Vf("a", 2)
    match Vf("a", 1):
        case Vf(pf, index):
            assert (pf, index) == ("a", 1)
