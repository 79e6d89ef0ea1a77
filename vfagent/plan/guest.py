# SPDX-License-Identifier: Apache-2.0
"""Which guest gets which VFs. Pure: the same guests, PFs and running units give the same placement."""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from vfagent.model.desired import DesiredPf
from vfagent.model.guest import GuestVf
from vfagent.model.inventory import VFIO_DRIVER, Pf, Vf, vf_in_use
from vfagent.model.pci import PciAddress
from vfagent.plan.planner import Plan
from vfagent.plan.steps import SetNumvfs
from vfagent.plan.unit_values import numbers
from vfagent.policy.references import VfReference, guests_of, vf_reference
from vfagent.policy.types import GuestRule


@dataclass(frozen=True, slots=True)
class ManagedPf:
    """A PF that a rule is for, as its last look left it. `trouble`: why none of its VFs may be given away now."""

    pf: Pf
    desired: DesiredPf
    plan: Plan
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
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
    known = sorted(pfs, key=lambda one: one.pf.address)
    guests = expand(rules, known)
    taken = _Taken({address: name for name, addresses in held.items() for address in addresses})
    for guest in guests:
        for reference in _references(guest):
            if reference.indices is not None:
                taken.reserved[reference.label, _only(reference)] = guest.name
    # Guests that name their VFs come first, so that one that takes any does not take theirs.
    order = sorted(
        guests, key=lambda guest: (any(one.indices is None for one in _references(guest)), guest.name in idle)
    )
    placed = {guest.name: _place(guest, known, taken, held.get(guest.name)) for guest in order}
    return tuple(placed[guest.name] for guest in guests)


def _references(guest: GuestRule) -> list[VfReference]:
    return [vf_reference(text) for text in guest.vfs]


def _only(reference: VfReference) -> int:
    assert reference.indices is not None
    return next(reference.indices.within(1 << 16))


def _place(guest: GuestRule, pfs: list[ManagedPf], taken: _Taken, held: tuple[PciAddress, ...] | None) -> Placement:
    if held is not None:
        return Placement(guest, tuple(_given(one, vf) for one in pfs for vf in one.pf.vfs if vf.address in held))
    found: list[GuestVf] = []
    for reference in _references(guest):
        candidates = [one for one in _candidates(reference, guest, pfs, taken) if one[0] not in found]
        near = {vf.numa_node for vf in found} or _wanted_nodes(guest)
        candidates.sort(key=lambda one: (one[1] is not None, bool(near) and one[0].numa_node not in near))
        vf, why = (
            candidates[0] if candidates else (None, f"no PF of rule {reference.label!r} is here, or has a VF left")
        )
        if vf is None or why:
            return Placement(guest, (), why)
        found.append(vf)
    taken.given.update((vf.address, guest.name) for vf in found)
    return Placement(guest, tuple(found))


def _candidates(
    reference: VfReference, guest: GuestRule, pfs: list[ManagedPf], taken: _Taken
) -> Iterator[tuple[GuestVf, str | None]]:
    """VFs that the reference could mean, each with what stands in its way."""
    mine = [one for one in pfs if one.desired.rule == reference.label]
    for one in mine:
        if reference.indices is not None:
            yield _candidate(one, _only(reference), taken)
            continue
        wanted = (vf.index for vf in one.desired.vfs if vf.driver == VFIO_DRIVER)
        free = (index for index in wanted if taken.reserved.get((reference.label, index), guest.name) == guest.name)
        yield from (_candidate(one, index, taken) for index in free)


def _candidate(one: ManagedPf, index: int, taken: _Taken) -> tuple[GuestVf, str | None]:
    vf = next((vf for vf in one.pf.vfs if vf.index == index), None)
    if vf is None:
        absent = GuestVf(one.pf.address, index, one.pf.address, None, one.pf.numa_node)
        return absent, f"{absent}: {one.trouble or 'is not there yet'}"
    holder = taken.given.get(vf.address)
    why = f"is guest {holder}'s" if holder else one.trouble or not_ready(one, vf)
    return _given(one, vf), f"{one.pf.address}/vf{index}: {why}" if why else None


def _given(one: ManagedPf, vf: Vf) -> GuestVf:
    return GuestVf(one.pf.address, vf.index, vf.address, vf.iommu_group, one.pf.numa_node)


def not_ready(one: ManagedPf, vf: Vf) -> str | None:
    """Why a guest cannot have this VF now."""
    wish = next((wish for wish in one.desired.vfs if wish.index == vf.index), None)
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
    yield from (text for text in plan.problems if text == whole or text.startswith(f"vf{index}:"))


def _wanted_nodes(guest: GuestRule) -> set[int | None]:
    """The NUMA nodes that the guest's unit is given by the policy."""
    text = str(dict(guest.unit).get("AllowedMemoryNodes") or dict(guest.unit).get("NUMAMask") or "")
    return set(numbers(text))
