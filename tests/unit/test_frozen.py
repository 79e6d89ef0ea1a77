# SPDX-License-Identifier: Apache-2.0
import pickle
from dataclasses import dataclass, field, fields, replace

import pytest

from vfagent.frozen import frozen


@frozen(slots=True)
class Vf:
    """Several fields, one of which is not compared."""

    pf: str
    index: int = 0
    notes: tuple[str, ...] = field(default=(), compare=False)


@frozen
class Named:
    """One field, as AlsoNamed."""

    name: str


@frozen
class AlsoNamed:
    """One field, as Named."""

    name: str


@frozen
class Nothing:
    """No field."""


@frozen(kw_only=True)
class Rule(Named):
    """An inherited field and a keyword-only one."""

    vlan: int = 1


def test_the_same_values_are_equal_and_have_the_same_hash() -> None:
    assert Vf("a", 1) == Vf("a", 1)
    assert Rule("a", vlan=2) == Rule("a", vlan=2)
    assert {Vf("a", 1), Vf("a", 1), Vf("a", 2)} == {Vf("a", 1), Vf("a", 2)}
    assert {Nothing(), Nothing()} == {Nothing()}


def test_other_values_or_another_class_are_not_equal() -> None:
    assert Vf("a", 1) != Vf("a", 2)
    assert Rule("a", vlan=2) != Rule("b", vlan=2)
    others: list[object] = [AlsoNamed("a"), Rule("a"), "a"]
    assert Named("a") not in others


def test_a_field_that_is_not_compared_makes_no_difference() -> None:
    assert Vf("a", 1, ("x",)) == Vf("a", 1)
    assert hash(Vf("a", 1, ("x",))) == hash(Vf("a", 1))


def test_its_repr_is_that_of_a_dataclass() -> None:
    @dataclass(frozen=True)
    class Usual:
        """A dataclass of the standard library."""

        name: str
        vlan: int

    usual = repr(Usual("a", 2)).replace("Usual", "Rule").rpartition(".")[2]
    assert repr(Rule("a", vlan=2)) == usual


@pytest.mark.parametrize("value", [Vf("a", 1, ("x",)), Named("a"), Rule("a", vlan=3), Nothing()])
def test_it_can_be_pickled(value: object) -> None:
    copy = pickle.loads(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
    assert copy == value
    assert repr(copy) == repr(value)


def test_it_works_with_fields_replace_and_match() -> None:
    assert [item.name for item in fields(Rule("a"))] == ["name", "vlan"]
    assert replace(Vf("a", 1), index=2) == Vf("a", 2)
    match Vf("a", 1):
        case Vf(pf, index):
            assert (pf, index) == ("a", 1)
