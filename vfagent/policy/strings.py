# SPDX-License-Identifier: Apache-2.0
"""The small languages that strings of the policy are written in, and what each becomes."""

import re
from collections.abc import Callable

from vfagent.policy import globs
from vfagent.policy.indices import index_set, vf_count
from vfagent.policy.spelling import nearest
from vfagent.policy.value_types import Text

# Control characters, line separators, and what reverses the direction of text on a terminal.
_HIDDEN = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"(?:{_OCTET}\.){{3}}{_OCTET}"
_H = "[0-9a-fA-F]{1,4}"
_IPV6 = "|".join(
    [f"(?:{_H}:){{7}}{_H}", f"(?:{_H}:){{1,7}}:"]
    + [f"(?:{_H}:){{1,{7 - after}}}(?::{_H}){{1,{after}}}" for after in range(1, 7)]
    + [f":(?::{_H}){{1,7}}", "::"]
)
_PREFIXED = rf"{_IPV4}/(?:3[0-2]|[12]?[0-9])|(?:{_IPV6})/(?:12[0-8]|1[01][0-9]|[1-9]?[0-9])"
_PORT = "(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})"
_HOST = r"[a-zA-Z0-9](?:[a-zA-Z0-9.-]{0,251}[a-zA-Z0-9])?"
_NO_PARENT = r"(?!(?:.*/)?\.\.(?:/|$))"
_OCTETS = "(?::[0-9a-fA-F]{2}){5}"
_UNICAST = rf"(?!(?:00:){{5}}00)[0-9a-fA-F][02468aceACE]{_OCTETS}"
_TEMPLATE = r"(?=.*\{)(?:[0-9a-fA-F:]|\{index(?::0?[1-9]?[dxX]?)?\}){1,64}"
_INDEX = "(?:0|[1-9][0-9]{0,4})"
_INDICES = rf"{_INDEX}(?:-{_INDEX})?(?:, ?{_INDEX}(?:-{_INDEX})?)*|\*"
# RFC 4173, as iPXE reads it: all but server and target may be empty.
_ISCSI = r"iscsi:(?:\[[^\]]+\]|[^:\[\]]+):[0-9a-zA-Z]*:[0-9]*:[0-9a-fA-F-]*:[^:].*"
_DRIVER_WORDS = ("vfio-pci", "host", "none")
_DRIVER_ALLOWED = '"vfio-pci", "host", "none", or the name of a driver'
_LABEL = "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}"


def _explain_path(found: str) -> str:
    if "," in found:
        return "QEMU's options end at a comma"
    return '".." leads elsewhere' if ".." in found.split("/") else ""


def _explain_mac(found: str) -> str:
    if re.fullmatch("(?:00:){5}00", found):
        return "all zero"
    if re.fullmatch(f"[0-9a-fA-F][13579bdfBDF]{_OCTETS}", found):
        return "a multicast address: the lowest bit of the first byte is set"
    return "only {index} may stand in braces, as {index:02x} for two digits" if "{" in found else ""


def _explain_interface(found: str) -> str:
    return "longer than 15 bytes" if len(found.encode()) > 15 else ""


def _explain_guest(found: str) -> str:
    return "longer than 32 characters" if len(found) > 32 and "{" not in found else ""


def _references(text: str) -> str:
    _, colon, indices = text.partition(":")
    if colon:
        index_set(indices)
    return text


def _mac(text: str) -> str | None:
    return None if text == "keep" else text.lower()


def _driver(text: str) -> str:
    """Any name could be a driver's, but what is a slip away from a word of ours was meant to be that."""
    meant = nearest(text, _DRIVER_WORDS, 2)
    if meant is None or meant == text or (text.startswith(meant) and len(text) > len(meant) + 1):  # as host1x is
        return text
    raise ValueError(f'allowed is {_DRIVER_ALLOWED}, did you mean "{meant}"?')


def _canonical_interface(text: str) -> str:
    import ipaddress  # only policies with addresses need it

    address = ipaddress.ip_interface(text)
    if address.ip.is_multicast or address.ip.is_unspecified:
        raise ValueError("allowed is an address that one host can hold")
    network = address.network
    whole = {network.network_address: "network address", network.broadcast_address: "broadcast address"}
    if address.version == 4 and network.prefixlen < 31 and address.ip in whole:
        raise ValueError(f"the {whole[address.ip]} of {network}, allowed is an address of a host in it")
    return str(address)


def _canonical_address(text: str) -> str:
    return _canonical_interface(text).partition("/")[0]


def _interface_or_dhcp(text: str) -> str:
    return text if text == "dhcp" else _canonical_interface(text)


def _boot_url(text: str) -> str:
    """What is iPXE's to fill in is left to it."""
    if text.startswith("iscsi:") and "${" not in text and not re.fullmatch(_ISCSI, text):
        raise ValueError(
            "allowed is iscsi:server:protocol:port:LUN:target, as in iscsi:192.168.10.1::::iqn.2016-01.com.example:a"
        )
    return text


def _seconds(text: str) -> float:
    number, unit = re.fullmatch("([0-9]+)([a-z]+)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"s": 1, "m": 60, "h": 3600}[unit[0]]


def _mebibytes(text: str) -> int:
    return int(text[:-1]) * {"M": 1, "G": 1024, "T": 1024 * 1024}[text[-1]]


def _text(allowed: str, longest: int, convert: Callable[[str], str] = str) -> Text:
    return Text(f"[^{_HIDDEN}]{{1,{longest}}}", f"{allowed} without control characters", longest, convert)


VF_COUNT = Text("max|(?:100|[1-9][0-9]?)%", '"max" or a share such as "50%"', convert=vf_count, words=("max",))
INDEX_SET = Text(_INDICES, 'VF indices such as "0", "0-2", "0,2,5-7", or "*"', convert=index_set)
LABEL = Text(_LABEL, "a name of letters, digits, _, . and -, at most 64")
DRIVER = Text("[a-zA-Z0-9_-]{1,64}", _DRIVER_ALLOWED, convert=_driver, words=_DRIVER_WORDS)
MAC = Text(
    rf"stable|keep|{_UNICAST}|{_TEMPLATE}",
    '"stable", "keep", a unicast MAC, or a template such as "52:54:00:bb:00:{index:02x}"',
    convert=_mac,
    explain=_explain_mac,
    words=("stable", "keep"),
)
INTERFACE = Text(
    r"(?!\.{1,2}$)[!-.0-9;-~]{1,15}",
    "a name of an interface: 1 to 15 printable ASCII characters without space, / and :",
    15,
    explain=_explain_interface,
)
ADDRESS = Text(f"{_IPV4}|{_IPV6}", 'an IP address such as "192.168.10.1"', convert=_canonical_address)
HOST_ADDRESS = Text(
    _PREFIXED, 'an IP address with its prefix length such as "192.168.10.1/24"', convert=_canonical_interface
)
HOST_ADDRESS_OR_DHCP = Text(
    f"dhcp|{_PREFIXED}",
    '"dhcp" or an address such as "192.168.10.10/24"',
    convert=_interface_or_dhcp,
    words=("dhcp",),
)
METRICS = Text(
    rf"(?:{_HOST}|\[(?:{_IPV6})\]):{_PORT}|unix:{_NO_PARENT}/[!-+\--~]{{1,106}}|",
    '"host:port", "[IPv6]:port", "unix:/absolute/path", or "" for none',
    320,
)
PATH = Text(
    f"{_NO_PARENT}/[^,{_HIDDEN}]{{1,1022}}",
    'an absolute path without "..", commas and control characters',
    1023,
    explain=_explain_path,
)
# What only root writes, so that a policy cannot hand any file of the host to a guest.
ROM_FOLDERS = ("/etc/vfagent/", "/opt/", "/srv/", "/usr/", "/var/lib/vfagent/")
ROM_FILE = Text(
    f"{_NO_PARENT}(?:{'|'.join(ROM_FOLDERS)})[^,{_HIDDEN}]{{1,1000}}",
    f"a file below {', '.join(ROM_FOLDERS[:-1])} or {ROM_FOLDERS[-1]}",
    1023,
    explain=_explain_path,
)
CHAP_USER = Text(r"(?:[a-zA-Z0-9._:@-]|\{index\}){1,223}", "a name of letters, digits, ., _, :, @ and -, at most 223")
PERIOD = Text(
    "[1-9][0-9]{1,4}s|[1-9][0-9]{0,3}min|[1-9][0-9]?h", "10s to 99999s, 1min to 9999min, or 1h to 99h", convert=_seconds
)
MEMORY = Text(
    "[1-9][0-9]{0,7}M|[1-9][0-9]{0,4}G|[1-9][0-9]?T",
    'a whole number with M, G or T, such as "512M"',
    convert=_mebibytes,
)
GUEST_NAME = Text(
    r"(?:[a-z0-9]|\{index\})(?:[a-z0-9_-]|\{index\}){0,31}",
    "a name of a-z, 0-9, _ and -, not beginning with _ or -, at most 32",
    explain=_explain_guest,
)
VF_REFERENCE = Text(
    rf"{_LABEL}(?::{_INDEX})?",
    'label:index of a VF such as "storage:0", or a label alone for any free VF',
    convert=_references,
)
VF_REFERENCES = Text(rf"{_LABEL}:(?:{_INDICES})", 'a label and VF indices such as "storage:0-3"', convert=_references)
VNC = Text(
    rf"(?:{_IPV4}|\[(?:{_IPV6})\]|localhost):(?:0|[1-9][0-9]{{0,3}}|\{{index\}})",
    'an address and a display such as "127.0.0.1:0"',
)
BOOT_URL = Text(
    r"(?:iscsi:|https?://)[!#-&(-\[\]-_a-~]{1,1000}",
    "an iscsi:, http: or https: URL without spaces, quotes, backslashes and control characters",
    1023,
    convert=_boot_url,
)
ISCSI_URL = Text(
    r"iscsi:[!#-&(-\[\]-_a-~]{1,1000}", "an iscsi: URL without spaces, quotes, backslashes and control characters", 1023
)
COMMAND_LINE = Text("[ -~]{0,2000}", "at most 2000 printable ASCII characters", 2000)
GLOB = _text(globs.NAME, 255, globs.name)
PCI_GLOB = Text(GLOB.pattern, globs.PCI, convert=globs.pci)
MAC_GLOB = Text(GLOB.pattern, globs.MAC, convert=globs.mac)
HARDWARE_ID = Text(r"(?:0[xX])?[0-9a-fA-F*?\[\]!-]{1,32}", globs.HARDWARE_ID, convert=globs.hardware_id)
DESCRIPTION = _text("a line of at most 200 characters", 200)
