# SPDX-License-Identifier: Apache-2.0
"""Which guest gets which VFs. Pure: the same guests, PFs and running units give the same placement."""

from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from vfagent.frozen import frozen
from vfagent.guests.spec.unit_values import numbers
from vfagent.model.desired import DesiredPf, DesiredVf
from vfagent.model.guest_unit import GuestVf
from vfagent.model.inventory import VFIO_DRIVER, Pf, Vf, vf_in_use
from vfagent.model.pci import PciAddress
from vfagent.plan.planner import Plan
from vfagent.plan.steps import SetNumvfs
from vfagent.policy.references import VfReference, guests_of, vf_reference
from vfagent.policy.types import GuestRule


@frozen(slots=True)
class ManagedPf:
    """A PF that a rule is for, as its last look left it. `trouble`: why none of its VFs may be given away now."""

    pf: Pf
    desired: DesiredPf
    plan: Plan
    trouble: str | None = None


@frozen(slots=True)
class Placement:
    """A guest and its VFs. `waits`: what keeps it from having them all."""

    rule: GuestRule
    vfs: tuple[GuestVf, ...] = ()
    waits: str | None = None


@dataclass(slots=True)
class _Taken:
    """VFs by whom they are given to. Of those that guests name, `reserved` keeps them from others."""

    given: dict[PciAddress, str] = field(default_factory=dict)
    reserved: dict[tuple[str, int], str] = field(default_factory=dict)


@frozen(slots=True)
class _Asked:
    """One reference of a guest that has `found` VFs so far."""

    guest: str
    reference: VfReference
    found: frozenset[tuple[PciAddress, int]]
    taken: _Taken


class _Choice:
    """A PF's VFs by index. With many guests on many VFs each is asked for often, and looked through once."""

    def __init__(self, pf: ManagedPf) -> None:
        self.pf, self.label = pf, pf.desired.rule
        self._vfs = {vf.index: vf for vf in reversed(pf.pf.vfs)}
        self._wishes = {wish.index: wish for wish in reversed(pf.desired.vfs)}
        self._left = deque(wish.index for wish in pf.desired.vfs if wish.driver == VFIO_DRIVER)
        self._ready: dict[int, str | None] = {}

    def free(self, asked: _Asked) -> GuestVf | None:
        if self.pf.trouble:
            return None
        given = asked.taken.given
        while self._left and (first := self._vfs.get(self._left[0])) and first.address in given:
            self._left.popleft()
        for index in self._meant(asked, self._left):
            vf = self._vfs.get(index)
            if vf and vf.address not in given and not self._not_ready(vf):
                return _given(self.pf, vf)
        return None

    def blocker(self, asked: _Asked) -> str | None:
        """What stands in the way of the first VF that could be meant."""
        wanted = (wish.index for wish in self.pf.desired.vfs if wish.driver == VFIO_DRIVER)
        index = next(iter(self._meant(asked, wanted)), None)
        if index is None:
            return None
        vf = self._vfs.get(index)
        user = asked.taken.given.get(vf.address) if vf else None
        why = f"is guest {user}'s" if user else self.pf.trouble
        why = why or (self._not_ready(vf) if vf else "is not there yet")
        return f"{self.pf.pf.address}/vf{index}: {why}"

    def _meant(self, asked: _Asked, any_of: Iterable[int]) -> Iterator[int]:
        """The indices that the reference could mean: of any, those that are not kept for somebody else."""
        label, reserved, own = asked.reference.label, asked.taken.reserved, asked.guest
        if asked.reference.indices is not None:
            meant: Iterable[int] = (_only(asked.reference),)
        else:
            meant = (index for index in any_of if reserved.get((label, index), own) == own)
        address = self.pf.pf.address
        return (index for index in meant if (address, index) not in asked.found)

    def _not_ready(self, vf: Vf) -> str | None:
        if vf.index not in self._ready:
            self._ready[vf.index] = not_ready(self.pf, vf, self._wishes.get(vf.index))
        return self._ready[vf.index]


def expand(rules: Iterable[GuestRule], pfs: Iterable[ManagedPf]) -> tuple[GuestRule, ...]:
    """The guests that the rules stand for on the PFs that are there."""
    counts: dict[str, int] = {}
    for one in pfs:
        count = len(one.pf.vfs) if one.desired.numvfs is None else one.desired.numvfs
        counts[one.desired.rule] = max(count, counts.get(one.desired.rule, 0))
    labels = ((rule, vf_reference(rule.each).label if rule.each else "") for rule in rules)
    return tuple(guest for rule, label in labels for guest in guests_of(rule, counts.get(label, 0)))


def place(
    rules: Iterable[GuestRule],
    pfs: Iterable[ManagedPf],
    held: Mapping[str, tuple[PciAddress, ...]],
    idle: Container[str] = (),
) -> tuple[Placement, ...]:
    """Give each guest its VFs. `held`: what running guests have, by name; they keep it, whatever the policy says.

    `idle`: guests that are not to start; of VFs that any guest may have, they get what the others leave.
    """
    managed = sorted(pfs, key=lambda one: one.pf.address)
    guests, known = expand(rules, managed), [_Choice(one) for one in managed]
    taken = _Taken({address: name for name, addresses in held.items() for address in addresses})
    for guest in guests:
        for reference in _references(guest):
            if reference.indices is not None:
                taken.reserved[reference.label, _only(reference)] = guest.name
    # Guests that name their VFs come first, so that one that takes any does not take theirs.
    order = sorted(
        guests, key=lambda guest: (any(one.indices is None for one in _references(guest)), guest.name in idle)
    )
    everywhere = {vf.address: _given(one, vf) for one in managed for vf in one.pf.vfs} if held else {}
    placed = {
        guest.name: _kept(guest, everywhere, held[guest.name]) if guest.name in held else _place(guest, known, taken)
        for guest in order
    }
    return tuple(placed[guest.name] for guest in guests)


def _references(guest: GuestRule) -> list[VfReference]:
    return [vf_reference(text) for text in guest.vfs]


def _only(reference: VfReference) -> int:
    assert reference.indices is not None
    return next(reference.indices.within(1 << 16))


def _kept(guest: GuestRule, everywhere: Mapping[PciAddress, GuestVf], held: tuple[PciAddress, ...]) -> Placement:
    found = (everywhere[address] for address in set(held) if address in everywhere)
    return Placement(guest, tuple(sorted(found, key=lambda vf: (vf.pf, vf.index))))


def _place(guest: GuestRule, pfs: list[_Choice], taken: _Taken) -> Placement:
    found: list[GuestVf] = []
    for reference in _references(guest):
        near = {vf.numa_node for vf in found} or _wanted_nodes(guest)
        mine = [one for one in pfs if one.label == reference.label]
        # Stable: of the near ones, and of the others, the first by address.
        mine.sort(key=lambda one: bool(near) and one.pf.pf.numa_node not in near)
        asked = _Asked(guest.name, reference, frozenset((vf.pf, vf.index) for vf in found), taken)
        vf = next((vf for one in mine if (vf := one.free(asked))), None)
        if vf is None:
            nobody = f"no PF of rule {reference.label!r} is here, or has a VF left"
            return Placement(guest, (), next((why for one in mine if (why := one.blocker(asked))), nobody))
        found.append(vf)
    taken.given.update((vf.address, guest.name) for vf in found)
    return Placement(guest, tuple(found))


def _given(one: ManagedPf, vf: Vf) -> GuestVf:
    return GuestVf(one.pf.address, vf.index, vf.address, vf.iommu_group, one.pf.numa_node)


def not_ready(one: ManagedPf, vf: Vf, wish: DesiredVf | None) -> str | None:
    """Why a guest cannot have this VF now."""
    if wish is None or wish.driver != VFIO_DRIVER:
        return "the policy does not bind it to vfio-pci"
    if why := vf_in_use(vf, nic=one.pf.is_nic):
        return why
    if vf.driver != VFIO_DRIVER:
        return "is not bound to vfio-pci yet"
    return next(_unfinished(one, vf.index), None)


def _unfinished(one: ManagedPf, index: int) -> Iterator[str]:
    """What the PF's plan still holds that concerns this VF."""
    plan = one.plan
    yield from plan.waiting
    yield from plan.lacking
    yield from (planned.step.describe() for planned in plan.steps if getattr(planned.step, "index", index) == index)
    for late in plan.deferred:
        if isinstance(late.step, SetNumvfs) or getattr(late.step, "index", None) == index:
            yield f"{late.step.describe()} is deferred"
    whole = one.desired.problem
    yield from (str(problem) for problem in plan.problems if problem.vf == index or problem.text == whole)


def _wanted_nodes(guest: GuestRule) -> set[int | None]:
    """The NUMA nodes that the guest's unit is given by the policy."""
    text = str(dict(guest.unit).get("AllowedMemoryNodes") or dict(guest.unit).get("NUMAMask") or "")
    return set(numbers(text))
