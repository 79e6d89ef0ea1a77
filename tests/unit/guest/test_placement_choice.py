# SPDX-License-Identifier: Apache-2.0
"""The choice of VFs beside its plain definition: of all VFs that are meant, the first free one, rather a near one."""

from collections.abc import Iterator
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.guest.hosts import managed, pf, vf
from vfagent.guests.spec.placement import ManagedPf, Placement, not_ready, place
from vfagent.model.guest_unit import GuestVf
from vfagent.model.inventory import VFIO_DRIVER
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


class Plainly:
    """Every VF is looked at for every guest."""

    def __init__(self, guests: list[GuestRule], pfs: list[ManagedPf], held: Held) -> None:
        self.guests, self.pfs, self.held = guests, pfs, held
        self.given = {address: name for name, addresses in held.items() for address in addresses}
        named = [(one.name, vf_reference(text)) for one in guests for text in one.vfs]
        self.reserved = {(ref.label, index_of(ref)): name for name, ref in named if ref.indices is not None}

    def placed(self) -> tuple[Placement, ...]:
        order = sorted(self.guests, key=lambda one: any(":" not in text for text in one.vfs))
        found = {one.name: self.place(one) for one in order}
        return tuple(found[one.name] for one in self.guests)

    def place(self, guest: GuestRule) -> Placement:
        if (mine := self.held.get(guest.name)) is not None:
            there = ((one, vf) for one in self.pfs for vf in one.pf.vfs)
            return Placement(guest, tuple(self.value(one, vf.index) for one, vf in there if vf.address in mine))
        found: list[GuestVf] = []
        for reference in map(vf_reference, guest.vfs):
            options = [one for one in self.options(reference, guest) if one[0] not in found]
            near = {vf.numa_node for vf in found} or {int(text) for name, text in guest.unit if name == "NUMAMask"}
            options.sort(key=lambda one: (one[1] is not None, bool(near) and one[0].numa_node not in near))
            if not options:
                return Placement(guest, (), f"no PF of rule {reference.label!r} is here, or has a VF left")
            if options[0][1]:
                return Placement(guest, (), options[0][1])
            found.append(options[0][0])
        self.given.update((vf.address, guest.name) for vf in found)
        return Placement(guest, tuple(found))

    def options(self, reference: VfReference, guest: GuestRule) -> Iterator[Option]:
        for one in (one for one in self.pfs if one.desired.rule == reference.label):
            named, wanted = index_of(reference), (wish.index for wish in one.desired.vfs if wish.driver == VFIO_DRIVER)
            free = [
                number for number in wanted if self.reserved.get((reference.label, number), guest.name) == guest.name
            ]
            yield from (
                (self.value(one, number), self.why(one, number)) for number in ([named] if named is not None else free)
            )

    def value(self, one: ManagedPf, index: int) -> GuestVf:
        found = next((vf for vf in one.pf.vfs if vf.index == index), None)
        address, group = (found.address, found.iommu_group) if found else (one.pf.address, None)
        return GuestVf(one.pf.address, index, address, group, one.pf.numa_node)

    def why(self, one: ManagedPf, index: int) -> str | None:
        found = next((vf for vf in one.pf.vfs if vf.index == index), None)
        wish = next((wish for wish in one.desired.vfs if wish.index == index), None)
        user = self.given.get(found.address) if found else None
        ready = not_ready(one, found, wish) if found else "is not there yet"
        why = f"is guest {user}'s" if user else one.trouble or ready
        return f"{one.pf.address}/vf{index}: {why}" if why else None


WHERE = st.sets(st.tuples(st.integers(1, 4), st.integers(0, 3)), max_size=8)
NAMES = st.lists(st.sampled_from(["a", "a", "b", "a:0", "a:1", "a:3", "b:2", "c"]), min_size=1, max_size=3)


@st.composite
def guests(draw: st.DrawFn) -> list[GuestRule]:
    nodes = st.sampled_from([(), (("NUMAMask", "0"),), (("NUMAMask", "1"),)])
    asked = draw(st.lists(st.tuples(NAMES, nodes), max_size=14))
    return [GuestRule(name=f"g{number}", vfs=tuple(vfs), unit=unit) for number, (vfs, unit) in enumerate(asked)]


@settings(max_examples=300, deadline=None)
@given(
    guests=guests(),
    nodes=st.lists(st.sampled_from([None, 0, 1]), min_size=4, max_size=4),
    absent=WHERE,
    unbound=WHERE,
    holding=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), unique=True, max_size=3),
    stuck=st.sets(st.integers(1, 4), max_size=2),
)
def test_each_guest_gets_the_first_free_vf_that_it_means_rather_a_near_one(
    guests: list[GuestRule],
    nodes: list[int | None],
    absent: set[tuple[int, int]],
    unbound: set[tuple[int, int]],
    holding: list[tuple[int, int]],
    stuck: set[int],
) -> None:
    held: Held = {f"g{2 * number}": (vf(*where).address,) for number, where in enumerate(holding)}
    there = {bus: [index for index in range(4) if (bus, index) not in absent] for bus in range(1, 5)}
    ports = [
        pf(
            bus,
            tuple(vf(bus, n, driver=None if (bus, n) in unbound else VFIO_DRIVER) for n in there[bus]),
            numa_node=node,
        )
        for bus, node in zip(range(1, 5), nodes, strict=True)
    ]
    found = [
        replace(one, trouble="is stuck" if number in stuck else None)
        for number, one in enumerate(managed(POLICY, *ports), 1)
    ]
    assert place(guests, found, held) == Plainly(guests, found, held).placed()
