# SPDX-License-Identifier: Apache-2.0
"""What is allowed in a policy, and is rarely meant."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from fnmatch import fnmatchcase

from vfagent.policy.iscsi import iscsi_url, iscsi_urls, variable
from vfagent.policy.problems import Problem, quoted
from vfagent.policy.reading import Merged, Rules
from vfagent.policy.references import INDEX_MARK
from vfagent.policy.source_locations import Location
from vfagent.policy.spelling import suggestion
from vfagent.policy.types import PfMatch, PfRule

_ONE_PORT = ("interface", "mac", "path", "pci")
_REGULAR_EXPRESSION = re.compile(r"^\^|^!|\$|\.\*|\.\+|\\|\||^\(|\)$")
_VF_DRIVERS = {"igbvf": '"igb"', "ixgbevf": '"ixgbe"', "iavf": '"ice" or "i40e"'}


def warnings(merged: Merged) -> Iterator[Problem]:
    """Each at its place."""
    bridges = [bridge.name for bridge in merged.policy.bridge]
    if merged.policy.files and not merged.pfs:
        yield Problem(merged.policy.files[0], 0, 0, "", "no [[pf]] rule: every NIC is left as it is")
    for number, (rule, at) in enumerate(merged.pfs):
        yield from _never_reached(rule, at, merged.policy.pf[:number])
        yield from _patterns(rule, at / "match")
        yield from _vlans_on_several_ports(rule, at)
        yield from _bridges_of_nobody(rule, at, bridges)
    yield from _targets_on_several_servers(merged.guests)
    yield from _kernels_of_secure_boot(merged.guests)


def _never_reached(rule: PfRule, at: Location, earlier: Sequence[PfRule]) -> Iterator[Problem]:
    """The first rule that matches a PF applies."""
    covering = next((before for before in earlier if _covers(before.match, rule.match)), None)
    if covering is not None:
        yield (at / "match").problem(
            f"the rule never applies, as rule {quoted(covering.name)} before it matches all that it matches: put it "
            "first, or let the other match by more"
        )


def _covers(general: PfMatch, special: PfMatch) -> bool:
    pairs = [(getattr(general, key.name), getattr(special, key.name)) for key in fields(PfMatch)]
    return all(pattern in (None, "*") or _matches_all(pattern, other) for pattern, other in pairs)


def _matches_all(pattern: str, other: str | None) -> bool:
    """Whether each value that `other` matches is one of `pattern`, as far as that is plain to see."""
    return other is not None and (pattern == other or (not re.search(r"[*?\[]", other) and fnmatchcase(other, pattern)))


def _patterns(rule: PfRule, at: Location) -> Iterator[Problem]:
    for key in fields(PfMatch):
        pattern = getattr(rule.match, key.name)
        if pattern is None:
            continue
        if _REGULAR_EXPRESSION.search(pattern) or (key.name in ("driver", "interface") and "," in pattern):
            yield (at / key.name).problem(
                f"{quoted(pattern)} is no pattern as a shell has it, of * ? and [ ]: for alternatives, write a rule "
                "for each"
            )
    if rule.match.interface and (indices := re.search(r"#([0-9][0-9-]*)$", rule.match.interface)):
        yield (at / "interface").problem(
            f"{quoted(rule.match.interface)} names VFs as SR-IOV operators do: here it is [[pf.vf]] with index ="
            f" {quoted(indices[1])}"
        )
    if rule.match.driver in _VF_DRIVERS:
        of = _VF_DRIVERS[rule.match.driver]
        yield (at / "driver").problem(f"{quoted(rule.match.driver)} is a driver of VFs: that of the PF is {of}")
    if rule.match.path is not None and rule.match.path.startswith("/"):
        yield (at / "path").problem(
            f"{quoted(rule.match.path)} is no ID_PATH, which begins with a bus, such as "
            '"pci-0000:01:00.0"; for a name use match.interface'
        )


def _vlans_on_several_ports(rule: PfRule, at: Location) -> Iterator[Problem]:
    if rule.vlan and not _matches_one_port(rule.match):
        names = ", ".join(quoted(vlan.name) for vlan in rule.vlan)
        yield (at / "match").problem(
            f"may match several ports, and the VLAN interface {names} can be on one only: match by interface, mac, "
            "path or pci without a pattern"
        )


def _matches_one_port(match: PfMatch) -> bool:
    patterns = (getattr(match, key) for key in _ONE_PORT)
    return any(pattern is not None and not re.search(r"[*?\[]", pattern) for pattern in patterns)


def _bridges_of_nobody(rule: PfRule, at: Location, bridges: list[str]) -> Iterator[Problem]:
    ports = [
        *((vf.bridge, at / "vf" / number) for number, vf in enumerate(rule.vf)),
        *((vlan.bridge, at / "vlan" / number) for number, vlan in enumerate(rule.vlan)),
    ]
    reported = set(bridges)
    for name, port in ports:
        if name and name not in reported:
            reported.add(name)
            text = f"no [[bridge]] makes {quoted(name)}, so the host must have it{suggestion(name, bridges)}"
            yield (port / "bridge").problem(text)


def _targets_on_several_servers(guests: Rules) -> Iterator[Problem]:
    """An iSCSI name is unique in the world, so that two servers with it may be two portals of one disk."""
    first: dict[tuple[str, str], tuple[str, str]] = {}
    for rule, at in guests:
        booted = (rule.ipxe.sanboot if rule.ipxe else None, rule.kernel.root if rule.kernel else None)
        for url in (url for url in iscsi_urls(booted) if not (variable(url) or INDEX_MARK in url)):
            disk = iscsi_url(url)
            name, server = first.setdefault((disk.target.lower(), disk.lun), (rule.name, disk.server))
            if name != rule.name and server != disk.server:
                yield at.problem(
                    f"boots from {disk.target} of {disk.server}, and guest {quoted(name)} from the same name of "
                    f"{server}: if these are portals of one disk, both write to it"
                )


def _kernels_of_secure_boot(guests: Rules) -> Iterator[Problem]:
    """X86QemuLoadImageLib of edk2 falls back to a loader that verifies nothing; later releases can refuse it."""
    for rule, at in guests:
        if rule.secure_boot and rule.kernel:
            yield (at / "secure_boot").problem(
                "secure boot does not protect this guest's kernel: firmware may start an unsigned"
                " guest.kernel.image by another loader, and its initrd and cmdline are never verified; a disk with a"
                " signed boot loader is"
            )
