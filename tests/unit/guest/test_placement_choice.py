# SPDX-License-Identifier: Apache-2.0
"""The choice of VFs, compared with its definition: the first free matching VF, on a wanted NUMA node if possible."""

from collections.abc import Iterator
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.guest.hosts import managed, pf, vf
from vfagent.guests.spec.placement import ManagedPf, Placement, not_ready, place
from vfagent.model.evidence import VFIO_DRIVER
from vfagent.model.guest_unit import GuestVf
from vfagent.model.pci import PciAddress
from vfagent.policy.references import VfReference, vf_reference
from vfagent.policy.types import GuestRule, PfMatch, PfRule, Policy, VfCount, VfRule

POLICY = Policy(
    pf=(
        PfRule(name="a", match=PfMatch(pci="0000:0[123]:*"), vfs=VfCount(number=4), vf=(VfRule(driver="vfio-pci"),)),
        PfRule(name="b", match=PfMatch(pci="0000:04:*"), vfs=VfCount(number=4), vf=(VfRule(driver="vfio-pci"),)),
    )
)
Option = tuple[GuestVf, str | None]
Held = dict[str, tuple[PciAddress, ...]]


def index_of(reference: VfReference) -> int | None:
    return None if reference.indices is None else next(reference.indices.within(8))


class Definition:
    """Checks every VF for every guest."""

    def __init__(self, guests: list[GuestRule], pfs: list[ManagedPf], held: Held) -> None:
        self.guests, self.pfs, self.held = guests, pfs, held
        self.assigned = {address: name for name, addresses in held.items() for address in addresses}
        named = [(guest.name, vf_reference(text)) for guest in guests for text in guest.vfs]
        self.reserved = {(ref.label, index_of(ref)): name for name, ref in named if ref.indices is not None}

    def placed(self) -> tuple[Placement, ...]:
        order = sorted(self.guests, key=lambda guest: any(":" not in text for text in guest.vfs))
        placements = {guest.name: self.place(guest) for guest in order}
        return tuple(placements[guest.name] for guest in self.guests)

    def place(self, guest: GuestRule) -> Placement:
        if (mine := self.held.get(guest.name)) is not None:
            vfs = ((managed_pf, vf) for managed_pf in self.pfs for vf in managed_pf.pf.vfs)
            return Placement(
                guest, tuple(self.value(managed_pf, vf.index) for managed_pf, vf in vfs if vf.address in mine)
            )
        chosen: list[GuestVf] = []
        for reference in map(vf_reference, guest.vfs):
            options = [option for option in self.options(reference, guest) if option[0] not in chosen]
            nodes = {vf.numa_node for vf in chosen} or {int(text) for name, text in guest.unit if name == "NUMAMask"}
            options.sort(key=lambda option: (option[1] is not None, bool(nodes) and option[0].numa_node not in nodes))
            if not options:
                return Placement(guest, (), f"no PF of rule {reference.label!r} has a free VF")
            vf, blocker = options[0]
            if blocker:
                return Placement(guest, (), blocker)
            chosen.append(vf)
        self.assigned.update((vf.address, guest.name) for vf in chosen)
        return Placement(guest, tuple(chosen))

    def options(self, reference: VfReference, guest: GuestRule) -> Iterator[Option]:
        label, named = reference.label, index_of(reference)
        for managed_pf in (managed_pf for managed_pf in self.pfs if managed_pf.desired.rule == label):
            for_vfio = (vf.index for vf in managed_pf.desired.vfs if vf.driver == VFIO_DRIVER)
            free = [index for index in for_vfio if self.reserved.get((label, index), guest.name) == guest.name]
            for index in free if named is None else [named]:
                yield self.value(managed_pf, index), self.blocker(managed_pf, index)

    def value(self, managed_pf: ManagedPf, index: int) -> GuestVf:
        vf = next((vf for vf in managed_pf.pf.vfs if vf.index == index), None)
        address, group = (vf.address, vf.iommu_group) if vf else (managed_pf.pf.address, None)
        return GuestVf(managed_pf.pf.address, index, address, group, managed_pf.pf.numa_node)

    def blocker(self, managed_pf: ManagedPf, index: int) -> str | None:
        vf = next((vf for vf in managed_pf.pf.vfs if vf.index == index), None)
        desired = next((desired for desired in managed_pf.desired.vfs if desired.index == index), None)
        user = self.assigned.get(vf.address) if vf else None
        reason = not_ready(managed_pf, vf, desired) if vf else "does not exist yet"
        why = f"is used by guest {user}" if user else managed_pf.trouble or reason
        return f"{managed_pf.pf.address}/vf{index}: {why}" if why else None


WHERE = st.sets(st.tuples(st.integers(1, 4), st.integers(0, 3)), max_size=8)
NAMES = st.lists(st.sampled_from(["a", "a", "b", "a:0", "a:1", "a:3", "b:2", "c"]), min_size=1, max_size=3)


@st.composite
def guests(draw: st.DrawFn) -> list[GuestRule]:
    nodes = st.sampled_from([(), (("NUMAMask", "0"),), (("NUMAMask", "1"),)])
    drawn = draw(st.lists(st.tuples(NAMES, nodes), max_size=14))
    return [GuestRule(name=f"g{number}", vfs=tuple(vfs), unit=unit) for number, (vfs, unit) in enumerate(drawn)]


@settings(max_examples=300, deadline=None)
@given(
    guests=guests(),
    nodes=st.lists(st.sampled_from([None, 0, 1]), min_size=4, max_size=4),
    absent=WHERE,
    unbound=WHERE,
    holding=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), unique=True, max_size=3),
    stuck=st.sets(st.integers(1, 4), max_size=2),
)
def test_each_guest_gets_the_first_free_matching_vf(
    guests: list[GuestRule],
    nodes: list[int | None],
    absent: set[tuple[int, int]],
    unbound: set[tuple[int, int]],
    holding: list[tuple[int, int]],
    stuck: set[int],
) -> None:
    held: Held = {f"g{2 * number}": (vf(*where).address,) for number, where in enumerate(holding)}
    indices = {bus: [index for index in range(4) if (bus, index) not in absent] for bus in range(1, 5)}
    ports = [
        pf(
            bus,
            tuple(vf(bus, n, driver=None if (bus, n) in unbound else VFIO_DRIVER) for n in indices[bus]),
            numa_node=node,
        )
        for bus, node in zip(range(1, 5), nodes, strict=True)
    ]
    pfs = [
        replace(managed_pf, trouble="is stuck" if number in stuck else None)
        for number, managed_pf in enumerate(managed(POLICY, *ports), 1)
    ]
    assert place(guests, pfs, held) == Definition(guests, pfs, held).placed()
