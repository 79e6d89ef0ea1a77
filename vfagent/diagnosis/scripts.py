# SPDX-License-Identifier: Apache-2.0
"""Who writes the number of VFs by a script, a rule or an option, and who hands VFs out. Pure."""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from vfagent.diagnosis.claim import Claim
from vfagent.diagnosis.facts import ExaminedPf, TextFile

_PCI = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")
_NUMVFS = "sriov_numvfs"
# A path in which the card is a variable or a glob.
_ANY_CARD = re.compile(r"/(?:net|devices)/[$*%{]|\$\{?\w")


def _code(text: str, marker: str) -> list[str]:
    """The lines that hold the marker, comments left out."""
    lines = (line.strip() for line in text.splitlines() if marker in line)
    return [line for line in lines if not line.startswith(("#", ";"))]


def by_script(file: TextFile, one: ExaminedPf) -> Iterator[Claim]:
    """Scripts, units, tmpfiles: by one of the card's names, or for no card in particular."""
    mine = [line for line in _code(file.text, _NUMVFS) if _is_about(line, file.text, one)]
    if mine:
        what = f"writes its number of VFs: {mine[0][:120]}"
        yield Claim("a script or unit", file.path, what, f"remove that from {file.path}, or disable it")


def _is_about(line: str, whole: str, one: ExaminedPf) -> bool:
    own = [str(one.pf.address), one.pf.netdev.name if one.pf.netdev else ""]
    if any(name and re.search(rf"(?<![\w:]){re.escape(name)}(?![\w:])", line) for name in own):
        return True
    named = _PCI.findall(whole)
    return _ANY_CARD.search(line) is not None and (not named or one.pf.address in named)


def by_udev(file: TextFile, one: ExaminedPf) -> Iterator[Claim]:
    for line in _code(file.text.replace("\\\n", " "), _NUMVFS):
        if not _udev_matches(line, one):
            continue
        if re.search(rf"{_NUMVFS}\}}\s*(?:==|!=)", line):
            what = f"reads {_NUMVFS}, which hangs udev for as long as a guest does not let go of a VF"
            yield Claim("a udev rule", file.path, what, f"remove that from {file.path}", writes=False)
        else:
            yield Claim("a udev rule", file.path, "writes its number of VFs", f"remove that from {file.path}")


def _udev_matches(line: str, one: ExaminedPf) -> bool:
    """A key that is not known here is taken as met: better one word too many."""
    netdev = one.pf.netdev
    names = [str(one.pf.address), netdev.name if netdev else ""]
    known = {
        "KERNEL": names,
        "KERNELS": names,
        "NAME": names,
        "DRIVER": [one.pf.driver or ""],
        "DRIVERS": [one.pf.driver or ""],
        "ENV{ID_PATH}": [one.pf.path or ""],
        "ENV{INTERFACE}": names,
        "ATTR{address}": [netdev.mac if netdev else ""],
        "ATTR{vendor}": [one.pf.vendor],
        "ATTRS{vendor}": [one.pf.vendor],
        "ATTR{device}": [one.pf.device],
        "ATTRS{device}": [one.pf.device],
    }
    asked = re.findall(r'([A-Z]+(?:\{\w+\})?)\s*==\s*"([^"]*)"', line)
    pairs = [(known[key], value.split("|")) for key, value in asked if key in known]
    return all(any(fnmatchcase(name, glob) for name in have for glob in globs) for have, globs in pairs)


def by_option(file: TextFile, one: ExaminedPf) -> Iterator[Claim]:
    """`options igb max_vfs=7`: the driver makes VFs as soon as it is loaded."""
    driver = re.escape(one.pf.driver or "-")
    if found := re.search(rf"^\s*options\s+{driver}\s.*\bmax_vfs=([1-9][\d,]*)", file.text, re.MULTILINE):
        what = f"makes VFs of it at probe: max_vfs={found[1]}"
        yield Claim("a module option", file.path, what, f"remove max_vfs from {file.path}")


def by_libvirt(file: TextFile, one: ExaminedPf) -> Iterator[Claim]:
    netdev, text = one.pf.netdev, file.text
    if netdev and re.search(rf"<pf\s+dev=['\"]{re.escape(netdev.name)}['\"]", text):
        advice = "let it have the PF alone, or address VFs by their own addresses with managed='no'"
        yield Claim("libvirt", file.path, "hands its VFs out in a network", advice, writes=False)
    for vf in one.pf.vfs:
        if re.search(_xml_address(vf.address), text):
            advice = "let one of the two give it away"
            yield Claim("libvirt", file.path, f"gives vf{vf.index} to a domain", advice, writes=False)


def _xml_address(address: str) -> str:
    """libvirt's spelling: `<address domain="0x0000" bus="0x01" slot="0x10" function="0x0"/>`."""
    domain, bus, rest = address.split(":")
    slot, function = rest.split(".")
    parts = (("domain", domain), ("bus", bus), ("slot", slot), ("function", function))
    return r"<address\s" + r"[^>]*".join(rf"\b{key}=['\"]0x0*{int(value, 16):x}['\"]" for key, value in parts)


# By the end of their path: who reads the file, what that does, and how to share a host with it.
_OPERATORS = (
    ("sriov-config.service", "the SR-IOV network operator", True, "mark the PF externallyManaged in its policy"),
    ("os-net-config/sriov_config.yaml", "os-net-config", True, "remove the PF from it"),
    ("oci-kvm-config.service", "oci-utils", True, "systemctl disable oci-kvm-config"),
    ("pcidp/config.json", "the SR-IOV device plugin", False, "select VFs there that the policy gives to no guest"),
)


def by_operator(file: TextFile, one: ExaminedPf) -> Iterator[Claim]:
    for end, who, writes, advice in _OPERATORS:
        if file.path.endswith(end):
            what = "makes VFs on the cards of this host" if writes else "hands VFs of this host to containers"
            yield Claim(who, file.path, what, advice, writes=writes)
