# SPDX-License-Identifier: Apache-2.0
"""Other programs that are told to make VFs or to set them: two managers of one card undo each other's work. Pure."""

import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase

from vfagent.doctor.checks.facts import Facts, PfFacts, Source, TextFile
from vfagent.doctor.checks.finding import Finding, Severity
from vfagent.frozen import frozen
from vfagent.model.inventory import Netdev


@frozen(slots=True)
class Conflict:
    """What somebody else wants of a card, and where that is written."""

    who: str
    path: str
    what: str
    advice: str
    writes: bool = True  # VFs are made or set; else only used


def _ini(file: TextFile) -> dict[str, list[tuple[str, str]]]:
    """Sections may come more than once, and so may keys."""
    sections: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for line in file.text.splitlines():
        text = line.strip()
        if text.startswith("[") and text.endswith("]"):
            name = text[1:-1]
            sections.setdefault(name, [])
        elif "=" in text and text[0] not in "#;":
            key, _, value = text.partition("=")
            sections.setdefault(name, []).append((key.strip(), value.strip()))
    return sections


def by_systemd(file: TextFile, one: PfFacts) -> Iterator[Conflict]:
    """systemd.link(5) and systemd.network(5)."""
    sections = _ini(file)
    count = next((value for key, value in sections.get("Link", []) if key == "SR-IOVVirtualFunctions"), None)
    if (count is None and "SR-IOV" not in sections) or not _systemd_matches(sections.get("Match", []), one):
        return
    who = "udev" if file.path.endswith(".link") else "systemd-networkd"
    what = f"makes {count} VFs of it" if count else "sets its VFs"
    yield Conflict(who, file.path, what, f"remove SR-IOVVirtualFunctions= and [SR-IOV] from {file.path}")


def _systemd_matches(match: list[tuple[str, str]], one: PfFacts) -> bool:
    """A key that is not known here is taken as met: better one word too many."""
    netdev = one.pf.netdev
    known = {
        "Name": netdev.name if netdev else None,
        "OriginalName": netdev.name if netdev else None,
        "Driver": one.pf.driver,
        "Path": one.pf.path,
        "MACAddress": netdev.mac if netdev else None,
        "PermanentMACAddress": (netdev.permanent_mac or netdev.mac) if netdev else None,
    }
    asked = [(known[key], value.lower().split()) for key, value in match if key in known]
    return all(have is None or any(fnmatchcase(have.lower(), glob) for glob in globs) for have, globs in asked)


def by_netplan(file: TextFile, one: PfFacts) -> Iterator[Conflict]:
    """Each definition is a block of its own, deeper than its name; `link: ens1` makes it a VF of that PF."""
    netdev = one.pf.netdev
    for name, block in blocks(file.text):
        mine = netdev is not None and (
            name == netdev.name or re.search(rf"set-name:\s*{re.escape(netdev.name)}\b", block)
        )
        mine = mine or bool(netdev and netdev.mac and netdev.mac in block.lower())
        if mine and (found := re.search(r"(virtual-function-count|embedded-switch-mode):\s*(\S+)", block)):
            advice = f"remove it from {file.path}, then: netplan generate"
            yield Conflict("netplan", file.path, f"has {found[1]}: {found[2]} for it", advice)


def blocks(text: str) -> Iterator[tuple[str, str]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for number, line in enumerate(lines):
        if found := re.fullmatch(r"(\s+)[\"']?([\w.-]+)[\"']?:\s*", line):
            inner = []
            for other in lines[number + 1 :]:
                if len(other) - len(other.lstrip()) <= len(found[1]):
                    break
                inner.append(other)
            yield found[2], "\n".join(inner)


def by_nm_profile(file: TextFile, one: PfFacts) -> Iterator[Conflict]:
    sections = _ini(file)
    if "sriov" not in sections:
        return
    name = dict(sections.get("connection", [])).get("interface-name")
    mac = dict(sections.get("ethernet", sections.get("802-3-ethernet", []))).get("mac-address", "").lower()
    netdev = one.pf.netdev
    if netdev and (name in (None, "", netdev.name)) and mac in ("", netdev.mac, netdev.permanent_mac):
        total = dict(sections["sriov"]).get("total-vfs", "0")
        advice = "nmcli connection modify PROFILE remove sriov; or leave the card to vfagent: nmcli device set "
        yield Conflict("NetworkManager", file.path, f"keeps its VFs at {total}", f"{advice}{netdev.name} managed no")


def by_nm_state(file: TextFile, one: PfFacts) -> Iterator[Conflict]:
    """/run/NetworkManager/devices/IFINDEX: what NetworkManager keeps of each device."""
    netdev = one.pf.netdev
    if netdev is None or file.path.rpartition("/")[2] != str(netdev.ifindex):
        return
    if dict(_ini(file).get("device", [])).get("managed") == "true":
        yield Conflict("NetworkManager", file.path, "manages it", _unmanage(netdev), writes=False)


def _unmanage(netdev: Netdev) -> str:
    return (
        f"where it need not: [keyfile] unmanaged-devices=interface-name:{netdev.name} in a file in "
        "/etc/NetworkManager/conf.d, then: systemctl reload NetworkManager"
    )


_PCI = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")
_NUMVFS = "sriov_numvfs"
# A path in which the card is a variable or a glob.
_ANY_CARD = re.compile(r"/(?:net|devices)/[$*%{]|\$\{?\w")


def _code(text: str, marker: str) -> list[str]:
    """The lines that hold the marker, comments left out."""
    lines = (line.strip() for line in text.splitlines() if marker in line)
    return [line for line in lines if not line.startswith(("#", ";"))]


def by_script(file: TextFile, one: PfFacts) -> Iterator[Conflict]:
    """Scripts, units, tmpfiles: by one of the card's names, or for no card in particular."""
    mine = [line for line in _code(file.text, _NUMVFS) if _is_about(line, file.text, one)]
    if mine:
        what = f"writes its number of VFs: {mine[0][:120]}"
        yield Conflict("a script or unit", file.path, what, f"remove that from {file.path}, or disable it")


def _is_about(line: str, whole: str, one: PfFacts) -> bool:
    own = [str(one.pf.address), one.pf.netdev.name if one.pf.netdev else ""]
    if any(name and re.search(rf"(?<![\w:]){re.escape(name)}(?![\w:])", line) for name in own):
        return True
    named = _PCI.findall(whole)
    return _ANY_CARD.search(line) is not None and (not named or one.pf.address in named)


def by_udev(file: TextFile, one: PfFacts) -> Iterator[Conflict]:
    for line in _code(file.text.replace("\\\n", " "), _NUMVFS):
        if not _udev_matches(line, one):
            continue
        if re.search(rf"{_NUMVFS}\}}\s*(?:==|!=)", line):
            what = f"reads {_NUMVFS}, which hangs udev for as long as a guest does not let go of a VF"
            yield Conflict("a udev rule", file.path, what, f"remove that from {file.path}", writes=False)
        else:
            yield Conflict("a udev rule", file.path, "writes its number of VFs", f"remove that from {file.path}")


def _udev_matches(line: str, one: PfFacts) -> bool:
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


def by_option(file: TextFile, one: PfFacts) -> Iterator[Conflict]:
    """`options igb max_vfs=7`: the driver makes VFs as soon as it is loaded."""
    driver = re.escape(one.pf.driver or "-")
    if found := re.search(rf"^\s*options\s+{driver}\s.*\bmax_vfs=([1-9][\d,]*)", file.text, re.MULTILINE):
        what = f"makes VFs of it at probe: max_vfs={found[1]}"
        yield Conflict("a module option", file.path, what, f"remove max_vfs from {file.path}")


def by_libvirt(file: TextFile, one: PfFacts) -> Iterator[Conflict]:
    netdev, text = one.pf.netdev, file.text
    if netdev and re.search(rf"<pf\s+dev=['\"]{re.escape(netdev.name)}['\"]", text):
        advice = "let it have the PF alone, or address VFs by their own addresses with managed='no'"
        yield Conflict("libvirt", file.path, "hands its VFs out in a network", advice, writes=False)
    for vf in one.pf.vfs:
        if re.search(_xml_address(vf.address), text):
            advice = "let one of the two give it away"
            yield Conflict("libvirt", file.path, f"gives vf{vf.index} to a domain", advice, writes=False)


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


def by_operator(file: TextFile, one: PfFacts) -> Iterator[Conflict]:
    for end, who, writes, advice in _OPERATORS:
        if file.path.endswith(end):
            what = "makes VFs on the cards of this host" if writes else "hands VFs of this host to containers"
            yield Conflict(who, file.path, what, advice, writes=writes)


READERS: dict[Source, Callable[[TextFile, PfFacts], Iterator[Conflict]]] = {
    Source.LINK: by_systemd,
    Source.NETWORK: by_systemd,
    Source.NETPLAN: by_netplan,
    Source.NM_PROFILE: by_nm_profile,
    Source.NM_STATE: by_nm_state,
    Source.UDEV: by_udev,
    Source.SCRIPT: by_script,
    Source.MODPROBE: by_option,
    Source.LIBVIRT: by_libvirt,
    Source.OPERATOR: by_operator,
}


def other_manager(facts: Facts) -> Iterator[Finding]:
    for one, desired in facts.managed:
        for claim in _conflicts(facts, one):
            yield Finding(
                "second-owner",
                Severity.ERROR if claim.writes else Severity.WARNING,
                one.pf.name,
                f"{claim.who} {claim.what} ({claim.path})",
                f"rule {desired.rule!r} says what its VFs are: each of the two undoes what the other does"
                if claim.writes
                else f"rule {desired.rule!r} says what its VFs are: two have a hand in it",
                claim.advice,
            )


def _conflicts(facts: Facts, one: PfFacts) -> Iterator[Conflict]:
    for source, read in READERS.items():
        for file in facts.of(source):
            yield from read(file, one)
