# SPDX-License-Identifier: Apache-2.0
"""What must hold between rules, of one file or of several."""

from collections.abc import Hashable, Iterable, Iterator
from itertools import islice

from vfagent.policy.guest_checks import vf_references
from vfagent.policy.indices import LARGEST_COUNT, IndexSet
from vfagent.policy.problems import Problem, quoted
from vfagent.policy.references import VfReference, guests_of, vf_reference
from vfagent.policy.source_locations import Place
from vfagent.policy.spelling import suggestion
from vfagent.policy.types import BridgeRule, GuestRule, PfRule, VlanRule

_MOST_VF_RULES = 4096
_MOST_RULES = 1024


def check_names(
    pfs: list[tuple[PfRule, Place]], bridges: list[tuple[BridgeRule, Place]], guests: list[tuple[GuestRule, Place]]
) -> Iterator[Problem]:
    """Names and addresses that may be held once only."""
    vlans, expanded = list(_vlans(pfs)), list(islice(_expanded(pfs, guests), _MOST_RULES))
    yield from _once("name", ((rule.name, at / "name") for rule, at in pfs))
    yield from _once("name", ((rule.name, at / "name") for rule, at in expanded))
    devices = [(rule.name, at / "name") for rule, at in bridges] + [(vlan.name, at / "name") for vlan, at in vlans]
    yield from _once("name", devices)
    held = ((a, at / "addresses" / n) for vlan, at in vlans for n, a in enumerate(dict.fromkeys(vlan.addresses)))
    yield from _once("address", held)
    yield from _once("display", ((rule.vnc, at / "vnc") for rule, at in expanded if rule.vnc))
    yield from _once("address", _boot_addresses(expanded))
    yield from _once("disk to write", _written_disks(expanded))
    yield from _ports(vlans)


def _vlans(pfs: Iterable[tuple[PfRule, Place]]) -> Iterator[tuple[VlanRule, Place]]:
    for rule, at in pfs:
        yield from ((vlan, at / "vlan" / number) for number, vlan in enumerate(rule.vlan))


def _expanded(
    pfs: Iterable[tuple[PfRule, Place]], guests: Iterable[tuple[GuestRule, Place]]
) -> Iterator[tuple[GuestRule, Place]]:
    """The guests that the rules stand for. Of `each` with "*", as many as the PF rule says, if it says a number."""
    counts = {rule.name: rule.vfs.number for rule, _ in pfs if rule.vfs}
    for rule, at in guests:
        reference = vf_reference(rule.each or "")
        explicit = reference.indices is not None and reference.indices.ranges is not None
        count = LARGEST_COUNT if explicit else counts.get(reference.label) or 0
        yield from ((guest, at) for guest in guests_of(rule, count))


def _once(what: str, items: Iterable[tuple[Hashable, Place]]) -> Iterator[Problem]:
    first: dict[Hashable, Place] = {}
    for value, at in items:
        holder = first.setdefault(value, at)
        if holder != at:
            yield at.problem(
                f"found {what} {quoted(str(value))} a second time, allowed is once: it is that of {holder}"
            )


def _boot_addresses(guests: Iterable[tuple[GuestRule, Place]]) -> Iterator[tuple[str, Place]]:
    for rule, at in guests:
        for name, boot in (("ipxe", rule.ipxe), ("kernel", rule.kernel)):
            repeated = name == "kernel" and rule.ipxe and boot and boot.address == rule.ipxe.address
            if boot and boot.address not in (None, "dhcp") and not repeated:
                yield (boot.address or "").partition("/")[0], at / name / "address"


def _written_disks(guests: Iterable[tuple[GuestRule, Place]]) -> Iterator[tuple[str, Place]]:
    for rule, at in guests:
        for number, disk in enumerate(rule.disk):
            if not disk.readonly:
                yield disk.path, at / "disk" / number / "path"


def _ports(vlans: list[tuple[VlanRule, Place]]) -> Iterator[Problem]:
    """A bridge that is itself a VLAN device of this policy."""
    names = {vlan.name: at for vlan, at in vlans}
    for vlan, at in vlans:
        if vlan.bridge in names and vlan.bridge != vlan.name:
            text = f"found {quoted(vlan.bridge)}, the VLAN device of {names[vlan.bridge]}, allowed is a bridge"
            yield (at / "bridge").problem(text)


def check_counts(pfs: list[tuple[PfRule, Place]], guests: list[tuple[GuestRule, Place]]) -> Iterator[Problem]:
    """Limits over all files; each file by itself is held to them already."""
    for rules in (pfs, guests):
        if len(rules) > _MOST_RULES:
            yield rules[_MOST_RULES][1].problem(f"found {len(rules)} rules in all files, allowed are {_MOST_RULES}")
    beyond = next(islice(_expanded(pfs, guests), _MOST_RULES, None), None)
    if beyond is not None and len(guests) <= _MOST_RULES:
        yield beyond[1].problem(f"found more guests up to here than the {_MOST_RULES} that are allowed in all")
    total = 0
    for rule, at in pfs:
        total += len(rule.vf)
        if total > _MOST_VF_RULES:
            yield (at / "vf").problem(f"found {total} rules for VFs up to here, allowed are {_MOST_VF_RULES} in all")
            return


def check_references(
    pfs: list[tuple[PfRule, Place]], guests: list[tuple[GuestRule, Place]], *, complete: bool
) -> Iterator[Problem]:
    """VFs that guests name must be made by a rule, be bound to vfio-pci, and be one guest's alone.

    Where the rules are not `complete`, one that is not among them may be there, and only wrong.
    """
    rules = {rule.name: rule for rule, _ in pfs}
    given: dict[tuple[str, int], Place] = {}
    for guest, guest_at in guests:
        for at, reference in vf_references(guest, guest_at):
            rule = rules.get(reference.label)
            if rule is not None:
                yield from _existing(rule, reference, at)
            elif complete:
                yield at.problem(_unknown_label(reference, tuple(rules)))
                continue
            yield from _given_once(reference, at, given)


def _unknown_label(reference: VfReference, labels: tuple[str, ...]) -> str:
    allowed = (
        f"the name of a [[pf]] rule{suggestion(reference.label, labels)}" if labels else "none: there is no [[pf]] rule"
    )
    return f"found {quoted(str(reference))}, allowed is {allowed}"


def _existing(rule: PfRule, reference: VfReference, at: Place) -> Iterator[Problem]:
    count = rule.vfs.number if rule.vfs else None
    if reference.indices is None:
        if not any(vf.driver == "vfio-pci" for vf in rule.vf):
            yield at.problem(_not_for_guests(reference))
        return
    last = max((high for _, high in reference.indices.ranges or ()), default=0)
    if count is not None and last >= count:
        yield at.problem(f"found {quoted(str(reference))}, allowed is 0 to {count - 1}: the rule makes {count} VFs")
        return
    indices = _indices(reference) if reference.indices.ranges else range(count or 1)
    wrong = next((index for index in indices if _driver(rule, index) != "vfio-pci"), None)
    if wrong is not None:
        yield at.problem(_not_for_guests(VfReference(rule.name, IndexSet(((wrong, wrong),))), _driver(rule, wrong)))


def _indices(reference: VfReference) -> Iterator[int]:
    """As many as there may be guests; that there are too many is said elsewhere."""
    return islice(reference.indices.within(LARGEST_COUNT) if reference.indices else iter(()), _MOST_RULES)


def _driver(rule: PfRule, index: int) -> str:
    return next((vf.driver for vf in rule.vf if index in vf.index), "host")


def _not_for_guests(reference: VfReference, driver: str = "host") -> str:
    return f'found {quoted(str(reference))}, whose driver is "{driver}", allowed is a VF with driver = "vfio-pci"'


def _given_once(reference: VfReference, at: Place, given: dict[tuple[str, int], Place]) -> Iterator[Problem]:
    for index in _indices(reference):
        holder = given.setdefault((reference.label, index), at)
        if holder != at:
            vf = quoted(f"{reference.label}:{index}")
            yield at.problem(f"found VF {vf} a second time, allowed is once: it is that of {holder}")
            return
