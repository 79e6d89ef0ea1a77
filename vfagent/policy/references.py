# SPDX-License-Identifier: Apache-2.0
"""VF references of guests, and the guests that `each` and `{index}` expand to."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

from vfagent.frozen import frozen
from vfagent.policy.indices import IndexSet, index_set
from vfagent.policy.source_locations import Location
from vfagent.policy.types import GuestRule
from vfagent.policy.value_types import NamedValues, Properties, declared

T = TypeVar("T")

INDEX_MARK = "{index}"


@frozen(slots=True)
class VfReference:
    """VFs of a PF rule; `indices` is None for any free VF."""

    label: str
    indices: IndexSet | None

    def __str__(self) -> str:
        return self.label if self.indices is None else f"{self.label}:{self.indices}"


def vf_reference(text: str) -> VfReference:
    """From "storage:0", "storage" or, in `each`, "storage:0-3"."""
    label, colon, indices = text.partition(":")
    return VfReference(label, index_set(indices) if colon else None)


def standby_positions(vfs: tuple[str, ...], text: str) -> tuple[int, ...]:
    """Which of a guest's VFs `standby_for` names, by the same reference or by the label alone."""
    return tuple(number for number, vf in enumerate(vfs) if text in (vf, vf_reference(vf).label))


def reaches(address: str, other: str) -> bool:
    """Whether the other address is a neighbour of a host with this address."""
    import ipaddress  # only policies with addresses need it

    neighbour = ipaddress.ip_address(other)
    on_link = neighbour in ipaddress.ip_interface(address).network
    return on_link or (neighbour.version == 6 and neighbour.is_link_local)


def address_of(template: str, index: int) -> str:
    """A VF's MAC or GUID, from a template or a fixed one."""
    return template.format(index=index).lower()


def guest_of_vf(rule: GuestRule, index: int) -> GuestRule:
    """The guest of one VF, from a rule with `each`."""
    reference = vf_reference(rule.each or "")
    return replace(_filled(rule, index), each=None, vfs=(f"{reference.label}:{index}", *rule.vfs))


def guests_of(rule: GuestRule, vf_count: int) -> tuple[GuestRule, ...]:
    """The guests of a rule; `vf_count`, its PF's number of VFs, matters only with `each`."""
    if rule.each is None:
        return (rule,)
    indices = vf_reference(rule.each).indices or IndexSet()
    return tuple(guest_of_vf(rule, index) for index in indices.within(vf_count))


def _filled(value: T, index: int) -> T:
    """With the index in every text."""
    filled: Any = value
    if isinstance(filled, str):
        filled = filled.replace(INDEX_MARK, str(index))
    elif isinstance(filled, tuple):
        filled = tuple(_filled(item, index) for item in filled)
    elif is_dataclass(filled) and not isinstance(filled, type):
        filled = replace(
            filled, **{field.name: _filled(getattr(filled, field.name), index) for field in fields(filled)}
        )
    return cast("T", filled)


def texts_of(value: object, at: Location) -> Iterator[tuple[Location, str]]:
    """Every text of a rule, with its location."""
    if isinstance(value, str):
        yield at, value
    elif isinstance(value, tuple):
        for number, item in enumerate(value):
            yield from texts_of(item, at / number)
    elif is_dataclass(value) and not isinstance(value, type):
        for key in declared(type(value)).values():
            item, key_at = getattr(value, key.field_name), at / key.name
            if isinstance(key.key.value_type, Properties | NamedValues):
                yield from ((key_at / name, text) for name, text in item if isinstance(text, str))
            else:
                yield from texts_of(item, key_at)
