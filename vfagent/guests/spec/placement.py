# SPDX-License-Identifier: Apache-2.0
"""Which guest gets which VFs. Pure: the same guests, PFs and running units give the same placement."""

from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from vfagent.frozen import frozen
from vfagent.guests.spec.unit_values import numbers
from vfagent.model.desired import KEEP_DRIVER, DesiredPf, DesiredVf
from vfagent.model.evidence import is_vfio
from vfagent.model.guest_unit import GuestVf
from vfagent.model.inventory import Pf, Vf
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import NO_MAC
from vfagent.model.vf_use import vf_in_use
from vfagent.plan.network_steps import SetEswitch
from vfagent.plan.planner import Plan
from vfagent.plan.steps import SetNumvfs
from vfagent.policy.references import VfReference, guests_of, vf_reference
from vfagent.policy.types import GuestRule


@frozen(slots=True)
class ManagedPf:
    """A PF with a rule, as last observed. `trouble`: why a guest cannot get any of its VFs now."""

    pf: Pf
    desired: DesiredPf
    plan: Plan
    trouble: str | None = None


@frozen(slots=True)
class Placement:
    """A guest and its VFs. `waits`: why it does not get all of them."""

    rule: GuestRule
    vfs: tuple[GuestVf, ...] = ()
    waits: str | None = None
    absent_bridge: str | None = None  # of one of its NICs


@dataclass(slots=True)
class _Assigned:
    """VFs and IOMMU groups that have a guest, by its name. `reserved`: VFs that a guest names, by rule and index.

    A group is opened by one process (vfio_group_fops_open()), so that all of its VFs are one guest's.
    """

    guests: dict[PciAddress, str] = field(default_factory=dict)
    groups: dict[int, str] = field(default_factory=dict)
    reserved: dict[tuple[str, int], str] = field(default_factory=dict)


@frozen(slots=True)
class _Request:
    """One reference of a guest that already gets the VFs `chosen`, by PF and index."""

    guest: str
    reference: VfReference
    chosen: frozenset[tuple[PciAddress, int]]
    assigned: _Assigned


class _Candidates:
    """A PF's VFs by index. With many guests each VF is asked for often, so its readiness is computed once."""

    def __init__(self, pf: ManagedPf) -> None:
        self.pf, self.label = pf, pf.desired.rule
        self._vfs = {vf.index: vf for vf in reversed(pf.pf.vfs)}
        self._desired = {vf.index: vf for vf in reversed(pf.desired.vfs)}
        self._left = deque(vf.index for vf in pf.desired.vfs if is_vfio(vf.driver))
        self._not_ready_reasons: dict[int, str | None] = {}

    def free(self, request: _Request) -> GuestVf | None:
        if self.pf.trouble:
            return None
        guests = request.assigned.guests
        while self._left and (first := self._vfs.get(self._left[0])) and first.address in guests:
            self._left.popleft()
        for index in self._matching(request, self._left):
            vf = self._vfs.get(index)
            if vf and vf.address not in guests and not (_shares_group(request, vf) or self._not_ready(vf)):
                return _guest_vf(self.pf, vf)
        return None

    def blocker(self, request: _Request) -> str | None:
        """Why the first VF that matches the reference cannot be used."""
        for_vfio = (vf.index for vf in self.pf.desired.vfs if is_vfio(vf.driver))
        index = next(iter(self._matching(request, for_vfio)), None)
        if index is None:
            return None
        vf = self._vfs.get(index)
        user = request.assigned.guests.get(vf.address) if vf else None
        why = f"is used by guest {user}" if user else self.pf.trouble or (vf and _shares_group(request, vf))
        why = why or (self._not_ready(vf) if vf else "does not exist yet")
        return f"{self.pf.pf.address}/vf{index}: {why}"

    def _matching(self, request: _Request, any_of: Iterable[int]) -> Iterator[int]:
        """The indices that match the reference: of `any_of`, those that are not reserved for another guest."""
        label, reserved, own = request.reference.label, request.assigned.reserved, request.guest
        if request.reference.indices is not None:
            indices: Iterable[int] = (_only(request.reference),)
        else:
            indices = (index for index in any_of if reserved.get((label, index), own) == own)
        address = self.pf.pf.address
        return (index for index in indices if (address, index) not in request.chosen)

    def _not_ready(self, vf: Vf) -> str | None:
        if vf.index not in self._not_ready_reasons:
            self._not_ready_reasons[vf.index] = not_ready(self.pf, vf, self._desired.get(vf.index))
        return self._not_ready_reasons[vf.index]


def _shares_group(request: _Request, vf: Vf) -> str | None:
    other = request.assigned.groups.get(vf.iommu_group, request.guest) if vf.iommu_group is not None else request.guest
    if other == request.guest:
        return None
    return (
        f"is in IOMMU group {vf.iommu_group} with a VF of guest {other}, and a group is one guest's: the slot needs"
        " ACS, or give one guest both"
    )


def expand(rules: Iterable[GuestRule], pfs: Iterable[ManagedPf]) -> tuple[GuestRule, ...]:
    """The guests that the rules make on the PFs that are present."""
    counts: dict[str, int] = {}
    for managed in pfs:
        label, numvfs = managed.desired.rule, managed.desired.numvfs
        counts[label] = max(len(managed.pf.vfs) if numvfs is None else numvfs, counts.get(label, 0))
    labels = ((rule, vf_reference(rule.each).label if rule.each else "") for rule in rules)
    return tuple(guest for rule, label in labels for guest in guests_of(rule, counts.get(label, 0)))


def place(
    rules: Iterable[GuestRule],
    pfs: Iterable[ManagedPf],
    held: Mapping[str, tuple[PciAddress, ...]],
    idle: Container[str] = (),
) -> tuple[Placement, ...]:
    """Assign VFs to each guest. `held`: the VFs of running guests, by name; they keep them, whatever the policy says.

    `idle`: guests that are not to start; where a reference matches any VF, they come after the others.
    """
    managed = sorted(pfs, key=lambda pf: pf.pf.address)
    guests, candidates = expand(rules, managed), [_Candidates(pf) for pf in managed]
    assigned = _Assigned({address: name for name, addresses in held.items() for address in addresses})
    for guest in guests:
        for reference in _references(guest):
            if reference.indices is not None:
                assigned.reserved[reference.label, _only(reference)] = guest.name
    # Guests that name their VFs come first, so that guests with any VF do not get them.
    order = sorted(
        guests, key=lambda guest: (any(ref.indices is None for ref in _references(guest)), guest.name in idle)
    )
    everywhere = {vf.address: _guest_vf(pf, vf) for pf in managed for vf in pf.pf.vfs} if held else {}
    for address, name in assigned.guests.items():
        if (group := everywhere[address].iommu_group if address in everywhere else None) is not None:
            assigned.groups[group] = name
    placements = {
        guest.name: _running(guest, everywhere, held[guest.name])
        if guest.name in held
        else _place(guest, candidates, assigned)
        for guest in order
    }
    return tuple(placements[guest.name] for guest in guests)


def _references(guest: GuestRule) -> list[VfReference]:
    return [vf_reference(text) for text in guest.vfs]


def _only(reference: VfReference) -> int:
    assert reference.indices is not None
    return next(reference.indices.within(1 << 16))


def _running(guest: GuestRule, everywhere: Mapping[PciAddress, GuestVf], held: tuple[PciAddress, ...]) -> Placement:
    vfs = (everywhere[address] for address in set(held) if address in everywhere)
    return Placement(guest, tuple(sorted(vfs, key=lambda vf: (vf.pf, vf.index))))


def _place(guest: GuestRule, pfs: list[_Candidates], assigned: _Assigned) -> Placement:
    chosen: list[GuestVf] = []
    for reference in _references(guest):
        nodes = {vf.numa_node for vf in chosen} or _wanted_nodes(guest)
        matching = [pf for pf in pfs if pf.label == reference.label]
        # Stable: within the same NUMA nodes, and within the others, by address.
        matching.sort(key=lambda pf: bool(nodes) and pf.pf.pf.numa_node not in nodes)
        request = _Request(guest.name, reference, frozenset((vf.pf, vf.index) for vf in chosen), assigned)
        vf = next((vf for pf in matching if (vf := pf.free(request))), None)
        if vf is None:
            no_vf = f"no PF of rule {reference.label!r} has a free VF"
            return Placement(guest, (), next((why for pf in matching if (why := pf.blocker(request))), no_vf))
        chosen.append(vf)
    assigned.guests.update((vf.address, guest.name) for vf in chosen)
    assigned.groups.update((vf.iommu_group, guest.name) for vf in chosen if vf.iommu_group is not None)
    return Placement(guest, tuple(chosen))


def _guest_vf(managed: ManagedPf, vf: Vf) -> GuestVf:
    mac = vf.settings.mac if vf.settings and vf.settings.mac != NO_MAC else None
    return GuestVf(managed.pf.address, vf.index, vf.address, vf.iommu_group, managed.pf.numa_node, mac=mac or "")


def not_ready(managed: ManagedPf, vf: Vf, desired: DesiredVf | None) -> str | None:
    """Why a guest cannot get this VF now."""
    if desired is None or not (desired.driver == KEEP_DRIVER or is_vfio(desired.driver)):
        return "the policy does not bind it to vfio-pci or a variant of it"
    if why := vf_in_use(vf, managed.pf):
        return why
    if desired.driver == KEEP_DRIVER and not is_vfio(vf.driver, vfio_dev=vf.vfio_dev):
        kept = f"driver {vf.driver}" if vf.driver else "no driver"
        return f"keeps {kept}, until another program binds it to vfio-pci"
    if desired.driver not in (KEEP_DRIVER, vf.driver):
        withheld = next((str(problem) for problem in managed.plan.problems if problem.vf == vf.index), None)
        return withheld or f"is not bound to {desired.driver} yet"
    return next(_unfinished(managed, vf.index), None)


def _unfinished(managed: ManagedPf, index: int) -> Iterator[str]:
    """What is still pending in the PF's plan for this VF."""
    plan = managed.plan
    yield from plan.waiting
    yield from plan.lacking
    yield from (planned.step.describe() for planned in plan.steps if getattr(planned.step, "index", index) == index)
    for late in plan.deferred:
        if isinstance(late.step, SetNumvfs | SetEswitch) or getattr(late.step, "index", None) == index:
            yield f"{late.step.describe()} is deferred"
    whole = managed.desired.problem
    yield from (str(problem) for problem in plan.problems if problem.vf == index or problem.text == whole)


def _wanted_nodes(guest: GuestRule) -> set[int | None]:
    """The NUMA nodes that the guest's rule sets for its unit."""
    text = str(dict(guest.unit).get("AllowedMemoryNodes") or dict(guest.unit).get("NUMAMask") or "")
    return set(numbers(text))
