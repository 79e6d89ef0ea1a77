# SPDX-License-Identifier: Apache-2.0
"""Checks between rules, in one file or in several."""

from collections.abc import Hashable, Iterable, Iterator
from itertools import islice

from vfagent.model.evidence import is_vfio
from vfagent.policy.disk_uses import disks_of_several
from vfagent.policy.guest_checks import vf_references
from vfagent.policy.guest_order import check_order
from vfagent.policy.indices import LARGEST_COUNT, IndexSet
from vfagent.policy.nic_checks import check_nic_bridges, nic_macs
from vfagent.policy.problems import Problem, quoted
from vfagent.policy.references import VfReference, guests_of, vf_reference
from vfagent.policy.source_locations import Location
from vfagent.policy.spelling import nearest
from vfagent.policy.strings import VNC_SOCKET
from vfagent.policy.types import BridgeRule, GuestRule, PfRule, VlanRule

_MOST_VF_RULES = 4096
_MOST_RULES = 1024


def check_names(
    pfs: list[tuple[PfRule, Location]],
    bridges: list[tuple[BridgeRule, Location]],
    guests: list[tuple[GuestRule, Location]],
    *,
    complete: bool,
) -> Iterator[Problem]:
    """Names, addresses, displays and writable disks that only one rule can have."""
    vlans, expanded = list(_vlans(pfs)), list(islice(_expanded(pfs, guests), _MOST_RULES))
    yield from _repeated("name", ((rule.name, at / "name") for rule, at in pfs))
    yield from _repeated("name", ((rule.name, at / "name") for rule, at in expanded))
    devices = [(rule.name, at / "name") for rule, at in bridges] + [(vlan.name, at / "name") for vlan, at in vlans]
    yield from _repeated("name", devices)
    addresses = ((a, at / "addresses" / n) for vlan, at in vlans for n, a in enumerate(dict.fromkeys(vlan.addresses)))
    yield from _repeated("address", addresses)
    yield from _repeated("display", _displays(expanded))
    yield from _repeated("address", _boot_addresses(expanded))
    yield from disks_of_several(expanded)
    counted = all(_is_counted(rule, pfs) for rule, _ in guests)
    yield from check_order(expanded, complete=complete and counted)
    yield from _repeated("initiator", _initiators(expanded))
    yield from _repeated("MAC", nic_macs(expanded))
    yield from check_nic_bridges(bridges, guests)
    yield from _vlans_as_bridges(vlans)


def _vlans(pfs: Iterable[tuple[PfRule, Location]]) -> Iterator[tuple[VlanRule, Location]]:
    for rule, at in pfs:
        yield from ((vlan, at / "vlan" / number) for number, vlan in enumerate(rule.vlan))


def _expanded(
    pfs: Iterable[tuple[PfRule, Location]], guests: Iterable[tuple[GuestRule, Location]]
) -> Iterator[tuple[GuestRule, Location]]:
    """The guests that the rules create. `each` with "*" counts the VFs of its PF rule, if `vfs` is a number there."""
    counts = {rule.name: rule.vfs.number for rule, _ in pfs if rule.vfs}
    for rule, at in guests:
        reference = vf_reference(rule.each or "")
        explicit = reference.indices is not None and reference.indices.ranges is not None
        count = LARGEST_COUNT if explicit else counts.get(reference.label) or 0
        yield from ((guest, at) for guest in guests_of(rule, count))


def _is_counted(rule: GuestRule, pfs: Iterable[tuple[PfRule, Location]]) -> bool:
    """Whether the policy alone says how many guests the rule makes."""
    reference = vf_reference(rule.each or "")
    explicit = reference.indices is not None and reference.indices.ranges is not None
    return rule.each is None or explicit or any(pf.vfs and pf.vfs.number for pf, _ in pfs if pf.name == reference.label)


def _repeated(what: str, items: Iterable[tuple[Hashable, Location]]) -> Iterator[Problem]:
    users: dict[Hashable, Location] = {}
    for value, at in items:
        first_user = users.setdefault(value, at)
        if first_user != at:
            text = f"found {what} {quoted(str(value))} a second time, allowed is once: first used at {first_user}"
            yield at.problem(text)


def _displays(guests: Iterable[tuple[GuestRule, Location]]) -> Iterator[tuple[str, Location]]:
    for rule, at in guests:
        if rule.vnc and rule.vnc != VNC_SOCKET:
            yield rule.vnc, at / "vnc"
        if rule.vnc_remote:
            yield rule.vnc_remote, at / "vnc_remote"


def _boot_addresses(guests: Iterable[tuple[GuestRule, Location]]) -> Iterator[tuple[str, Location]]:
    for rule, at in guests:
        for name, boot in (("ipxe", rule.ipxe), ("kernel", rule.kernel)):
            repeated = name == "kernel" and rule.ipxe and boot and boot.address == rule.ipxe.address
            if boot and boot.address not in (None, "dhcp") and not repeated:
                yield (boot.address or "").partition("/")[0], at / name / "address"


def _initiators(guests: Iterable[tuple[GuestRule, Location]]) -> Iterator[tuple[str, Location]]:
    """A target takes a second session of the same initiator for the first one, which it ends."""
    for rule, at in guests:
        for name, boot in (("ipxe", rule.ipxe), ("kernel", rule.kernel)):
            repeated = name == "kernel" and rule.ipxe and boot and boot.initiator == rule.ipxe.initiator
            if boot and boot.initiator and not repeated:
                yield boot.initiator.lower(), at / name / "initiator"


def _vlans_as_bridges(vlans: list[tuple[VlanRule, Location]]) -> Iterator[Problem]:
    """A bridge that is itself a VLAN interface of this policy."""
    names = {vlan.name: at for vlan, at in vlans}
    for vlan, at in vlans:
        if vlan.bridge in names and vlan.bridge != vlan.name:
            text = f"found {quoted(vlan.bridge)}, the VLAN interface of {names[vlan.bridge]}, allowed is a bridge"
            yield (at / "bridge").problem(text)


def check_counts(pfs: list[tuple[PfRule, Location]], guests: list[tuple[GuestRule, Location]]) -> Iterator[Problem]:
    """Limits over all files; those of one file are checked when it is read."""
    for rules in (pfs, guests):
        if len(rules) > _MOST_RULES:
            yield rules[_MOST_RULES][1].problem(f"found {len(rules)} rules in all files, allowed are {_MOST_RULES}")
    beyond = next(islice(_expanded(pfs, guests), _MOST_RULES, None), None)
    if beyond is not None and len(guests) <= _MOST_RULES:
        yield beyond[1].problem(f"found more than {_MOST_RULES} guests up to here, allowed are {_MOST_RULES} in all")
    total = 0
    for rule, at in pfs:
        total += len(rule.vf)
        if total > _MOST_VF_RULES:
            yield (at / "vf").problem(f"found {total} rules for VFs up to here, allowed are {_MOST_VF_RULES} in all")
            return


def check_references(
    pfs: list[tuple[PfRule, Location]], guests: list[tuple[GuestRule, Location]], *, complete: bool
) -> Iterator[Problem]:
    """A VF of a guest must exist by a rule, be bound to a VFIO driver, and belong to no other guest.

    Where the rules are not `complete`, a missing one may be in the policy but have a problem of its own.
    """
    rules = {rule.name: rule for rule, _ in pfs}
    users: dict[tuple[str, int], Location] = {}
    for guest, guest_at in guests:
        for at, reference in vf_references(guest, guest_at):
            rule = rules.get(reference.label)
            if rule is not None:
                yield from _check_vfs(rule, reference, at)
            elif complete:
                yield at.problem(_unknown_label(reference, tuple(rules)))
                continue
            yield from _repeated_vfs(reference, at, users)


def _unknown_label(reference: VfReference, labels: tuple[str, ...]) -> str:
    if not labels:
        return f"found {quoted(str(reference))}, allowed is none: there is no [[pf]] rule"
    near = nearest(reference.label, labels)
    meant = f", did you mean {quoted(str(VfReference(near, reference.indices)))}?" if near else ""
    return f"found {quoted(str(reference))}, allowed is the name of a [[pf]] rule{meant}"


def _check_vfs(rule: PfRule, reference: VfReference, at: Location) -> Iterator[Problem]:
    count = rule.vfs.number if rule.vfs else None
    if reference.indices is None:
        if not any(is_vfio(vf.driver) for vf in rule.vf):
            kept = any(vf.driver == "keep" for vf in rule.vf)
            yield at.problem(_no_vf_for_guests(reference, kept=kept))
        return
    last = max((high for _, high in reference.indices.ranges or ()), default=0)
    if count is not None and last >= count:
        yield at.problem(f"found {quoted(str(reference))}, allowed is 0 to {count - 1}: the rule creates {count} VFs")
        return
    indices = _indices(reference) if reference.indices.ranges else range(count or 1)
    unsuitable = next((index for index in indices if not _for_guests(rule, index)), None)
    if unsuitable is not None:
        vf = VfReference(rule.name, IndexSet(((unsuitable, unsuitable),)))
        driver = rule.driver(unsuitable)
        yield at.problem(_not_named(vf) if driver == "keep" else _wrong_driver(vf, driver))


def _indices(reference: VfReference) -> Iterator[int]:
    """As many as guests are allowed; `check_counts` reports more."""
    return islice(reference.indices.within(LARGEST_COUNT) if reference.indices else iter(()), _MOST_RULES)


def _for_guests(rule: PfRule, index: int) -> bool:
    """With `driver = "keep"` another program binds it to vfio-pci; a VF that nobody named is that program's alone."""
    named = rule.named(index)
    return named is not None and (named.driver == "keep" or is_vfio(named.driver))


def _not_named(reference: VfReference) -> str:
    allowed = 'a VF with driver = "vfio-pci", or with driver = "keep" where another program binds it to vfio-pci'
    return f"found {quoted(str(reference))}, which no [[pf.vf]] of the rule includes, allowed is {allowed}"


def _no_vf_for_guests(reference: VfReference, *, kept: bool) -> str:
    """Any VF of a rule means one that the policy binds: of those that keep their driver another program chooses."""
    index = f', or an index, such as "{reference.label}:0", as the rule has driver = "keep"' if kept else ""
    allowed = f'a rule that has a [[pf.vf]] with driver = "vfio-pci"{index}'
    return f"found {quoted(str(reference))}, whose rule binds no VF to vfio-pci, allowed is {allowed}"


def _wrong_driver(reference: VfReference, driver: str) -> str:
    allowed = 'a VF with driver = "vfio-pci" or a variant of it'
    return f'found {quoted(str(reference))}, whose driver is "{driver}", allowed is {allowed}'


def _repeated_vfs(reference: VfReference, at: Location, users: dict[tuple[str, int], Location]) -> Iterator[Problem]:
    for index in _indices(reference):
        first_user = users.setdefault((reference.label, index), at)
        if first_user != at:
            vf = quoted(f"{reference.label}:{index}")
            yield at.problem(f"found VF {vf} a second time, allowed is once: first used at {first_user}")
            return
