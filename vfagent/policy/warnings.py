# SPDX-License-Identifier: Apache-2.0
"""What is allowed in a policy, and is rarely meant."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from fnmatch import fnmatchcase

from vfagent.policy.iscsi import iscsi_url, iscsi_urls, variable
from vfagent.policy.references import INDEX_MARK
from vfagent.policy.spelling import nearest
from vfagent.policy.types import PfMatch, PfRule, Policy

_ONE_PORT = ("interface", "mac", "path", "pci")
_REGULAR_EXPRESSION = re.compile(r"^\^|\$$|\.\*|\.\+|\\|\||^\(|\)$")
_VF_DRIVERS = {"igbvf": "'igb'", "ixgbevf": "'ixgbe'", "iavf": "'ice' or 'i40e'"}


def warnings(policy: Policy) -> Iterator[str]:
    """A line for each."""
    bridges = [bridge.name for bridge in policy.bridge]
    if policy.files and not policy.pf:
        yield "no [[pf]] rule: every NIC is left as it is"
    for number, rule in enumerate(policy.pf):
        yield from _never_reached(rule, policy.pf[:number])
        yield from _patterns(rule)
        yield from _vlans_on_several_ports(rule)
        yield from _bridges_of_nobody(rule, bridges)
    yield from _targets_on_several_servers(policy)
    yield from _kernels_of_secure_boot(policy)


def _never_reached(rule: PfRule, earlier: Sequence[PfRule]) -> Iterator[str]:
    """The first rule that matches a PF applies."""
    covering = next((before for before in earlier if _covers(before.match, rule.match)), None)
    if covering is not None:
        yield (
            f"rule {rule.name!r}: never applies, as rule {covering.name!r} before it matches all that it matches: put "
            "it first, or let the other match by more"
        )


def _covers(general: PfMatch, special: PfMatch) -> bool:
    pairs = [(getattr(general, key.name), getattr(special, key.name)) for key in fields(PfMatch)]
    return all(pattern in (None, "*") or _matches_all(pattern, other) for pattern, other in pairs)


def _matches_all(pattern: str, other: str | None) -> bool:
    """Whether each value that `other` matches is one of `pattern`, as far as that is plain to see."""
    return other is not None and (pattern == other or (not re.search(r"[*?\[]", other) and fnmatchcase(other, pattern)))


def _patterns(rule: PfRule) -> Iterator[str]:
    for key in fields(PfMatch):
        pattern = getattr(rule.match, key.name)
        if pattern is None:
            continue
        if _REGULAR_EXPRESSION.search(pattern) or (key.name in ("driver", "interface") and "," in pattern):
            yield (
                f"rule {rule.name!r}: match.{key.name} = {pattern!r} is no pattern as a shell has it, of * ? "
                "and [ ]: for alternatives, write a rule for each"
            )
    if rule.match.driver in _VF_DRIVERS:
        of = _VF_DRIVERS[rule.match.driver]
        yield f"rule {rule.name!r}: match.driver = {rule.match.driver!r} is a driver of VFs: that of the PF is {of}"
    if rule.match.path is not None and rule.match.path.startswith("/"):
        yield (
            f"rule {rule.name!r}: match.path = {rule.match.path!r} is no ID_PATH, which begins with a bus, such as "
            "'pci-0000:01:00.0'; for a name use match.interface"
        )


def _vlans_on_several_ports(rule: PfRule) -> Iterator[str]:
    if rule.vlan and not _matches_one_port(rule.match):
        names = ", ".join(repr(vlan.name) for vlan in rule.vlan)
        yield (
            f"rule {rule.name!r}: may match several ports, and its VLAN interface {names} can be on one only: match by "
            "interface, mac, path or pci without a pattern"
        )


def _matches_one_port(match: PfMatch) -> bool:
    patterns = (getattr(match, key) for key in _ONE_PORT)
    return any(pattern is not None and not re.search(r"[*?\[]", pattern) for pattern in patterns)


def _bridges_of_nobody(rule: PfRule, bridges: list[str]) -> Iterator[str]:
    named = [*(vf.bridge for vf in rule.vf), *(vlan.bridge for vlan in rule.vlan)]
    for name in dict.fromkeys(name for name in named if name and name not in bridges):
        meant = nearest(name, bridges)
        yield (
            f"rule {rule.name!r}: no [[bridge]] makes {name!r}, so the host must have it"
            + (f" (did you mean {meant!r}?)" if meant else "")
        )


def _targets_on_several_servers(policy: Policy) -> Iterator[str]:
    """An iSCSI name is unique in the world, so that two servers with it may be two portals of one disk."""
    guests: dict[tuple[str, str], tuple[str, str]] = {}
    for rule in policy.guest:
        booted = (rule.ipxe.sanboot if rule.ipxe else None, rule.kernel.root if rule.kernel else None)
        for url in (url for url in iscsi_urls(booted) if not (variable(url) or INDEX_MARK in url)):
            disk = iscsi_url(url)
            name, server = guests.setdefault((disk.target.lower(), disk.lun), (rule.name, disk.server))
            if name != rule.name and server != disk.server:
                yield (
                    f"guest {rule.name!r}: boots from {disk.target} of {disk.server}, and guest {name!r} from the same"
                    f" name of {server}: if these are portals of one disk, both write to it"
                )


def _kernels_of_secure_boot(policy: Policy) -> Iterator[str]:
    """X86QemuLoadImageLib of edk2 falls back to a loader that verifies nothing; later releases can refuse it."""
    for rule in policy.guest:
        if rule.secure_boot and rule.kernel:
            yield (
                f"guest {rule.name!r}: secure boot does not protect its kernel: firmware may start an unsigned"
                " guest.kernel.image by another loader, and its initrd and cmdline are never verified; a disk with a"
                " signed boot loader is"
            )
