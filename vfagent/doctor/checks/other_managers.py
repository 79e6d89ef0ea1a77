# SPDX-License-Identifier: Apache-2.0
"""Other programs that are configured to create or change VFs: two managers of one card undo each other's work. Pure."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fnmatch import fnmatchcase

from vfagent.doctor.checks.facts import Facts, Source, TextFile
from vfagent.doctor.checks.finding import Finding, Severity
from vfagent.frozen import frozen
from vfagent.model.inventory import Pf
from vfagent.policy.match import names_of


@frozen(slots=True)
class Conflict:
    """What another program does with a card, and the file that says so."""

    program: str
    path: str
    action: str
    advice: str
    writes: bool = True  # it creates or changes VFs; else it only uses them


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


def by_systemd(file: TextFile, pf: Pf) -> Iterator[Conflict]:
    """systemd.link(5) and systemd.network(5)."""
    sections = _ini(file)
    count = next((value for key, value in sections.get("Link", []) if key == "SR-IOVVirtualFunctions"), None)
    if (count is None and "SR-IOV" not in sections) or not _systemd_matches(sections.get("Match", []), pf):
        return
    program = "udev" if file.path.endswith(".link") else "systemd-networkd"
    action = f"creates {count} VFs on it" if count else "configures its VFs"
    yield Conflict(program, file.path, action, f"remove SR-IOVVirtualFunctions= and [SR-IOV] from {file.path}")


def _systemd_matches(match: list[tuple[str, str]], pf: Pf) -> bool:
    """An unknown key counts as met: a false warning is better than none. Name= is of alternative names, too."""
    netdev = pf.netdev
    known = {
        "Name": names_of(netdev) if netdev else (),
        "OriginalName": (netdev.name,) if netdev else (),
        "Driver": (pf.driver,) if pf.driver else (),
        "Path": (pf.path,) if pf.path else (),
        "MACAddress": (netdev.mac,) if netdev else (),
        "PermanentMACAddress": (netdev.permanent_mac or netdev.mac,) if netdev else (),
    }
    asked = [(known[key], value.lower().split()) for key, value in match if key in known]
    return all(
        not values or any(fnmatchcase(value.lower(), glob) for value in values for glob in globs)
        for values, globs in asked
    )


def by_netplan(file: TextFile, pf: Pf) -> Iterator[Conflict]:
    """Each definition is an indented block; `link: ens1` makes it a VF of that PF."""
    netdev = pf.netdev
    for name, block in blocks(file.text):
        mine = netdev is not None and (
            name == netdev.name or re.search(rf"set-name:\s*{re.escape(netdev.name)}\b", block)
        )
        mine = mine or bool(netdev and netdev.mac and netdev.mac in block.lower())
        if mine and (match := re.search(r"(virtual-function-count|embedded-switch-mode):\s*(\S+)", block)):
            advice = f"remove it from {file.path}, then: netplan generate"
            yield Conflict("netplan", file.path, f"sets {match[1]}: {match[2]} for it", advice)


def blocks(text: str) -> Iterator[tuple[str, str]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for number, line in enumerate(lines):
        if match := re.fullmatch(r"(\s+)[\"']?([\w.-]+)[\"']?:\s*", line):
            inner = []
            for other in lines[number + 1 :]:
                if len(other) - len(other.lstrip()) <= len(match[1]):
                    break
                inner.append(other)
            yield match[2], "\n".join(inner)


def by_nm_profile(file: TextFile, pf: Pf) -> Iterator[Conflict]:
    sections = _ini(file)
    if "sriov" not in sections:
        return
    name = dict(sections.get("connection", [])).get("interface-name")
    mac = dict(sections.get("ethernet", sections.get("802-3-ethernet", []))).get("mac-address", "").lower()
    netdev = pf.netdev
    if netdev and (name in (None, "", netdev.name)) and mac in ("", netdev.mac, netdev.permanent_mac):
        total = dict(sections["sriov"]).get("total-vfs", "0")
        advice = f"nmcli connection modify PROFILE remove sriov; or: nmcli device set {netdev.name} managed no"
        yield Conflict("NetworkManager", file.path, f"sets its VF count to {total}", advice)


def by_nm_state(file: TextFile, pf: Pf) -> Iterator[Conflict]:
    """NetworkManager's state of each device is in /run/NetworkManager/devices/IFINDEX."""
    netdev = pf.netdev
    if netdev is None or file.path.rpartition("/")[2] != str(netdev.ifindex):
        return
    if dict(_ini(file).get("device", [])).get("managed") == "true":
        advice = (
            f"if it does not have to: [keyfile] unmanaged-devices=interface-name:{netdev.name} in a file in "
            "/etc/NetworkManager/conf.d, then: systemctl reload NetworkManager"
        )
        yield Conflict("NetworkManager", file.path, "manages it", advice, writes=False)


_PCI = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")
_NUMVFS = "sriov_numvfs"
# A path in which the card is a variable or a glob.
_ANY_CARD = re.compile(r"/(?:net|devices)/[$*%{]|\$\{?\w")


def _code(text: str, marker: str) -> list[str]:
    """The lines with the marker, without comments."""
    lines = (line.strip() for line in text.splitlines() if marker in line)
    return [line for line in lines if not line.startswith(("#", ";"))]


def by_script(file: TextFile, pf: Pf) -> Iterator[Conflict]:
    """Scripts, units and tmpfiles that name the card, or that name no card."""
    mine = [line for line in _code(file.text, _NUMVFS) if _is_about(line, file.text, pf)]
    if mine:
        action = f"writes its sriov_numvfs: {mine[0][:120]}"
        yield Conflict("a script or unit", file.path, action, f"remove that line from {file.path}, or disable it")


def _is_about(line: str, whole: str, pf: Pf) -> bool:
    own = [str(pf.address), pf.netdev.name if pf.netdev else ""]
    if any(name and re.search(rf"(?<![\w:]){re.escape(name)}(?![\w:])", line) for name in own):
        return True
    named = _PCI.findall(whole)
    return _ANY_CARD.search(line) is not None and (not named or pf.address in named)


def by_udev(file: TextFile, pf: Pf) -> Iterator[Conflict]:
    for line in _code(file.text.replace("\\\n", " "), _NUMVFS):
        if not _udev_matches(line, pf):
            continue
        if re.search(rf"{_NUMVFS}\}}\s*(?:==|!=)", line):
            action = f"reads {_NUMVFS}, which blocks udev while a removal of VFs waits for a guest"
            yield Conflict("a udev rule", file.path, action, f"remove that line from {file.path}", writes=False)
        else:
            yield Conflict("a udev rule", file.path, "writes its sriov_numvfs", f"remove that line from {file.path}")


def _udev_matches(line: str, pf: Pf) -> bool:
    """An unknown key counts as met: a false warning is better than none."""
    netdev = pf.netdev
    names = [str(pf.address), netdev.name if netdev else ""]
    known = {
        "KERNEL": names,
        "KERNELS": names,
        "NAME": names,
        "DRIVER": [pf.driver or ""],
        "DRIVERS": [pf.driver or ""],
        "ENV{ID_PATH}": [pf.path or ""],
        "ENV{INTERFACE}": names,
        "ATTR{address}": [netdev.mac if netdev else ""],
        "ATTR{vendor}": [pf.vendor],
        "ATTRS{vendor}": [pf.vendor],
        "ATTR{device}": [pf.device],
        "ATTRS{device}": [pf.device],
    }
    asked = re.findall(r'([A-Z]+(?:\{\w+\})?)\s*==\s*"([^"]*)"', line)
    pairs = [(known[key], value.split("|")) for key, value in asked if key in known]
    return all(any(fnmatchcase(name, glob) for name in have for glob in globs) for have, globs in pairs)


def by_option(file: TextFile, pf: Pf) -> Iterator[Conflict]:
    """`options igb max_vfs=7`: the driver creates VFs when it probes the card."""
    driver = re.escape(pf.driver or "-")
    if match := re.search(rf"^\s*options\s+{driver}\s.*\bmax_vfs=([1-9][\d,]*)", file.text, re.MULTILINE):
        action = f"creates VFs on it at probe: max_vfs={match[1]}"
        yield Conflict("a module option", file.path, action, f"remove max_vfs from {file.path}")


def by_libvirt(file: TextFile, pf: Pf) -> Iterator[Conflict]:
    netdev, text = pf.netdev, file.text
    if netdev and re.search(rf"<pf\s+dev=['\"]{re.escape(netdev.name)}['\"]", text):
        advice = "leave the whole PF to libvirt, or name VFs by their PCI addresses with managed='no'"
        yield Conflict("libvirt", file.path, "assigns its VFs from a network", advice, writes=False)
    for vf in pf.vfs:
        if re.search(_xml_address(vf.address), text):
            advice = "assign it in libvirt or in the policy, not in both"
            yield Conflict("libvirt", file.path, f"assigns vf{vf.index} to a domain", advice, writes=False)


def _xml_address(address: str) -> str:
    """libvirt's spelling: `<address domain="0x0000" bus="0x01" slot="0x10" function="0x0"/>`."""
    domain, bus, rest = address.split(":")
    slot, function = rest.split(".")
    parts = (("domain", domain), ("bus", bus), ("slot", slot), ("function", function))
    return r"<address\s" + r"[^>]*".join(rf"\b{key}=['\"]0x0*{int(value, 16):x}['\"]" for key, value in parts)


# End of the file's path, the program that reads it, whether it creates VFs, and how to share a host with it.
_OPERATORS = (
    ("sriov-config.service", "the SR-IOV network operator", True, "mark the PF externallyManaged in its policy"),
    ("os-net-config/sriov_config.yaml", "os-net-config", True, "remove the PF from it"),
    ("oci-kvm-config.service", "oci-utils", True, "systemctl disable oci-kvm-config"),
    ("pcidp/config.json", "the SR-IOV device plugin", False, "select VFs there that the policy assigns to no guest"),
)


def by_operator(file: TextFile, pf: Pf) -> Iterator[Conflict]:
    for end, program, writes, advice in _OPERATORS:
        if file.path.endswith(end):
            action = "creates VFs on this host's cards" if writes else "assigns VFs of this host to containers"
            yield Conflict(program, file.path, action, advice, writes=writes)


READERS: dict[Source, Callable[[TextFile, Pf], Iterator[Conflict]]] = {
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
    for pf_facts, desired in facts.managed:
        for conflict in conflicts(pf_facts.pf, facts.others):
            yield Finding(
                "other-manager",
                Severity.ERROR if conflict.writes else Severity.WARNING,
                pf_facts.pf.name,
                f"{conflict.program} {conflict.action} ({conflict.path})",
                f"rule {desired.rule!r} configures its VFs too: each program undoes what the other does"
                if conflict.writes
                else f"rule {desired.rule!r} configures its VFs too: two programs use the same VFs",
                conflict.advice,
            )


def conflicts(pf: Pf, files: Iterable[tuple[Source, TextFile]]) -> Iterator[Conflict]:
    """Each file is compared with each netdev of the PF: an interface that it names may be the second port."""
    of_netdevs = [replace(pf, netdev=netdev) for netdev in pf.netdevs] or [pf]
    for source, read in READERS.items():
        for file in (file for kind, file in files if kind is source):
            yield from dict.fromkeys(conflict for of_netdev in of_netdevs for conflict in read(file, of_netdev))
