# SPDX-License-Identifier: Apache-2.0
"""What systemd, netplan and NetworkManager were told of a PF. Pure."""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from vfagent.diagnosis.claim import Claim
from vfagent.diagnosis.facts import ExaminedPf, TextFile
from vfagent.model.inventory import Netdev


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


def by_systemd(file: TextFile, one: ExaminedPf) -> Iterator[Claim]:
    """systemd.link(5) and systemd.network(5)."""
    sections = _ini(file)
    count = next((value for key, value in sections.get("Link", []) if key == "SR-IOVVirtualFunctions"), None)
    if (count is None and "SR-IOV" not in sections) or not _systemd_matches(sections.get("Match", []), one):
        return
    who = "udev" if file.path.endswith(".link") else "systemd-networkd"
    what = f"makes {count} VFs of it" if count else "sets its VFs"
    yield Claim(who, file.path, what, f"remove SR-IOVVirtualFunctions= and [SR-IOV] from {file.path}")


def _systemd_matches(match: list[tuple[str, str]], one: ExaminedPf) -> bool:
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


def by_netplan(file: TextFile, one: ExaminedPf) -> Iterator[Claim]:
    """Each definition is a block of its own, deeper than its name; `link: ens1` makes it a VF of that PF."""
    netdev = one.pf.netdev
    for name, block in blocks(file.text):
        mine = netdev is not None and (
            name == netdev.name or re.search(rf"set-name:\s*{re.escape(netdev.name)}\b", block)
        )
        mine = mine or bool(netdev and netdev.mac and netdev.mac in block.lower())
        if mine and (found := re.search(r"(virtual-function-count|embedded-switch-mode):\s*(\S+)", block)):
            advice = f"remove it from {file.path}, then: netplan generate"
            yield Claim("netplan", file.path, f"has {found[1]}: {found[2]} for it", advice)


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


def by_nm_profile(file: TextFile, one: ExaminedPf) -> Iterator[Claim]:
    sections = _ini(file)
    if "sriov" not in sections:
        return
    name = dict(sections.get("connection", [])).get("interface-name")
    mac = dict(sections.get("ethernet", sections.get("802-3-ethernet", []))).get("mac-address", "").lower()
    netdev = one.pf.netdev
    if netdev and (name in (None, "", netdev.name)) and mac in ("", netdev.mac, netdev.permanent_mac):
        total = dict(sections["sriov"]).get("total-vfs", "0")
        advice = "nmcli connection modify PROFILE remove sriov; or leave the card to vfagent: nmcli device set "
        yield Claim("NetworkManager", file.path, f"keeps its VFs at {total}", f"{advice}{netdev.name} managed no")


def by_nm_state(file: TextFile, one: ExaminedPf) -> Iterator[Claim]:
    """/run/NetworkManager/devices/IFINDEX: what NetworkManager keeps of each device."""
    netdev = one.pf.netdev
    if netdev is None or file.path.rpartition("/")[2] != str(netdev.ifindex):
        return
    if dict(_ini(file).get("device", [])).get("managed") == "true":
        yield Claim("NetworkManager", file.path, "manages it", _unmanage(netdev), writes=False)


def _unmanage(netdev: Netdev) -> str:
    return (
        f"where it need not: [keyfile] unmanaged-devices=interface-name:{netdev.name} in a file in "
        "/etc/NetworkManager/conf.d, then: systemctl reload NetworkManager"
    )
