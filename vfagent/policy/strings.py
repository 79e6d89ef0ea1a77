# SPDX-License-Identifier: Apache-2.0
"""The string types of the policy: the syntax of each, and the value it is converted to."""

import re
from collections.abc import Callable

from vfagent.policy import globs, iscsi
from vfagent.policy.indices import index_set, vf_count
from vfagent.policy.spelling import nearest
from vfagent.policy.value_types import MismatchError, String

# Control characters, line separators, and the characters that reverse the direction of text on a terminal.
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
_GUID = "(?!(?:00:){7}00)[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){7}"
_INDEX = "(?:0|[1-9][0-9]{0,4})"
_INDICES = rf"{_INDEX}(?:-{_INDEX})?(?:, ?{_INDEX}(?:-{_INDEX})?)*|\*"
_DRIVER_WORDS = ("vfio-pci", "host", "keep", "none")
_DRIVER_ALLOWED = '"vfio-pci", "host", "keep", "none", or the name of a driver'
# Words of other programs, and of people, that are no driver's name.
_NO_DRIVERS = {
    **dict.fromkeys(("auto", "automatic", "default", "kernel", "linux", "native", "netdev", "netdevice"), "host"),
    **dict.fromkeys(("dpdk", "guest", "kvm", "passthrough", "pci-passthrough", "qemu", "vm"), "vfio-pci"),
    **dict.fromkeys(("as-is", "ignore", "leave", "unchanged", "unmanaged"), "keep"),
    **dict.fromkeys(("detached", "empty", "false", "no", "null", "off", "unbind", "unbound"), "none"),
}
_LABEL = "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}"


def _explain_path(text: str) -> str:
    if "," in text:
        return "a comma ends an option of QEMU"
    return '".." leaves the folder' if ".." in text.split("/") else ""


def _explain_plain_path(text: str) -> str:
    if re.match("[a-z][a-z0-9+]*:", text):
        return "a network disk: map it to a block device of the host, as `rbd map` and `nbd-client` do, and name that"
    plain = "[a-zA-Z0-9/._+:@=-]" if text.startswith("/dev/") else "[a-zA-Z0-9/._+@=-]"
    odd = sorted(set(re.sub(rf"{plain}|\{{index\}}", "", text)))
    reason = f"systemd may misread {' '.join(map(repr, odd))}: use a symbolic link without" if odd else ""
    return _explain_path(text) or reason


def _explain_mac(text: str) -> str:
    if re.fullmatch("(?:00:){5}00", text):
        return "all zero"
    if re.fullmatch(f"[0-9a-fA-F][13579bdfBDF]{_OCTETS}", text):
        return "a multicast address: the lowest bit of the first byte is set"
    return "only {index} may stand in braces, as {index:02x} for two digits" if "{" in text else ""


def _explain_guid(text: str) -> str:
    if re.fullmatch("(?:00:){7}00", text):
        return "all zero"
    return "only {index} may stand in braces, as {index:02x} for two digits" if "{" in text else ""


def _explain_interface(text: str) -> str:
    return "longer than 15 bytes" if len(text.encode()) > 15 else ""


def _explain_vnc(text: str) -> str:
    remote = re.fullmatch(rf"(?:{_IPV4}|\[(?:{_IPV6})\]):{_DISPLAY}", text)
    return "an address that other hosts reach is vnc_remote, with vnc_password" if remote else ""


def _explain_guest(text: str) -> str:
    return "longer than 32 characters" if len(text) > 32 and "{" not in text else ""


def _references(text: str) -> str:
    _, colon, indices = text.partition(":")
    if colon:
        index_set(indices)
    return text


def _mac(text: str) -> str | None:
    return None if text == "keep" else text.lower()


def _driver(text: str) -> str:
    """Any driver name is allowed, but neither a misspelling of a keyword nor a word that means one."""
    keyword = _NO_DRIVERS.get(text.lower()) or nearest(text, _DRIVER_WORDS, 2)
    if keyword is None or keyword == text or (text.startswith(keyword) and len(text) > len(keyword) + 1):  # host1x
        return text
    raise MismatchError(f"allowed is {_DRIVER_ALLOWED}", meant=f', did you mean "{keyword}"?')


def _canonical_interface(text: str) -> str:
    import ipaddress  # only policies with addresses need it

    address = ipaddress.ip_interface(text)
    if address.ip.is_multicast or address.ip.is_unspecified:
        raise ValueError("allowed is the address of one host")
    network = address.network
    reserved = {network.network_address: "network address", network.broadcast_address: "broadcast address"}
    if address.version == 4 and network.prefixlen < 31 and address.ip in reserved:
        raise ValueError(f"the {reserved[address.ip]} of {network}, allowed is the address of a host in it")
    return str(address)


def _canonical_address(text: str) -> str:
    return _canonical_interface(text).partition("/")[0]


def _interface_or_dhcp(text: str) -> str:
    return text if text == "dhcp" else _canonical_interface(text)


def _boot_url(text: str) -> str:
    """A URL with an iPXE variable is complete only at boot, so its form is not checked."""
    if re.match("https?://[^/]*@", text):
        raise ValueError(
            "allowed is a URL without user and password, which every user of the guest could read; a script of your "
            "own can ask for them"
        )
    return text if iscsi.variable(text) else _portals(text)


def _root_url(text: str) -> str:
    if variable := iscsi.variable(text):
        raise ValueError(f"allowed is a URL without {variable}: a kernel does not know iPXE's variables")
    return _portals(text)


def _portals(text: str) -> str:
    for url in iscsi.iscsi_urls((text,)):
        iscsi.iscsi_url(url.replace("{index}", "0"))
    return text


def _seconds(text: str) -> float:
    number, unit = re.fullmatch("([0-9]+)([a-z]+)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"s": 1, "m": 60, "h": 3600}[unit[0]]


def _mebibytes(text: str) -> int:
    return int(text[:-1]) * {"M": 1, "G": 1024, "T": 1024 * 1024}[text[-1]]


def _explain_hidden(text: str) -> str:
    return "control characters" if re.search(f"[{_HIDDEN}]", text) else ""


def _line(allowed: str, longest: int, convert: Callable[[str], str] = str) -> String:
    return String(f"[^{_HIDDEN}]{{1,{longest}}}", allowed, longest, convert, _explain_hidden)


VF_COUNT = String("max|(?:100|[1-9][0-9]?)%", '"max" or a share such as "50%"', convert=vf_count, words=("max",))
INDEX_SET = String(_INDICES, 'VF indices such as "0", "0-2", "0,2,5-7", or "*"', convert=index_set)
LABEL = String(_LABEL, "a name of letters, digits, _, . and -, at most 64")
DRIVER = String("[a-zA-Z0-9_-]{1,64}", _DRIVER_ALLOWED, convert=_driver, words=_DRIVER_WORDS)
MAC = String(
    rf"stable|keep|{_UNICAST}|{_TEMPLATE}",
    '"stable", "keep", a unicast MAC, or a template such as "52:54:00:bb:00:{index:02x}"',
    convert=_mac,
    explain=_explain_mac,
    words=("stable", "keep"),
)
NIC_MAC = String(f"stable|{_UNICAST}", '"stable" or a unicast MAC', convert=str.lower, words=("stable",))
GUID = String(
    rf"stable|keep|{_GUID}|{_TEMPLATE}",
    '"stable", "keep", a GUID of 8 bytes, or a template such as "02:00:00:03:00:00:41:{index:02x}"',
    convert=_mac,
    explain=_explain_guid,
    words=("stable", "keep"),
)
INTERFACE = String(
    r"(?!\.{1,2}$)[!-.0-9;-~]{1,15}",
    "an interface name: 1 to 15 printable ASCII characters without space, / or :",
    15,
    explain=_explain_interface,
)
ADDRESS = String(f"{_IPV4}|{_IPV6}", 'an IP address such as "192.168.10.1"', convert=_canonical_address)
HOST_ADDRESS = String(
    _PREFIXED, 'an IP address with its prefix length such as "192.168.10.1/24"', convert=_canonical_interface
)
HOST_ADDRESS_OR_DHCP = String(
    f"dhcp|{_PREFIXED}",
    '"dhcp" or an address such as "192.168.10.10/24"',
    convert=_interface_or_dhcp,
    words=("dhcp",),
)
METRICS = String(
    rf"(?:{_HOST}|\[(?:{_IPV6})\]):{_PORT}|unix:{_NO_PARENT}/[!-+\--~]{{1,106}}|",
    '"host:port", "[IPv6]:port", "unix:/absolute/path", or ""',
    320,
)
PATH = String(
    f"{_NO_PARENT}/[^,{_HIDDEN}]{{1,1022}}",
    'an absolute path without "..", commas or control characters',
    1023,
    explain=_explain_path,
)
_HIDDEN_IN_TEXT = _HIDDEN.replace(r"\x00-\x1f", r"\x00-\x08\x0b-\x1f")  # tab and line feed are no surprise there
FILE_OR_TEXT = String(
    rf"{_NO_PARENT}/[^,{_HIDDEN}]{{1,1022}}|[^/{_HIDDEN_IN_TEXT}][^{_HIDDEN_IN_TEXT}]*",
    'an absolute path without "..", commas or control characters, or text that does not begin with /',
    65536,
    explain=_explain_path,
)
MACHINE = String("pc-q35-[a-z0-9.]{1,32}", 'a versioned q35 machine such as "pc-q35-7.2"')
BOOT_FILE = String(
    rf"{_NO_PARENT}[/\\][a-zA-Z0-9/\\._-]{{1,254}}",
    'an absolute path of letters, digits, /, ., _ and -, such as "/EFI/debian/grubx64.efi"',
    convert=lambda text: text.replace("\\", "/"),
    explain=_explain_path,
)
CREDENTIAL = String(
    "(?!\\.{1,2}$)[a-zA-Z0-9._@~+-]{1,128}",
    "a name of letters, digits, ., _, @, ~, + and -, at most 128",
    128,
)
# For what becomes a property of a guest's unit. systemd writes it to the unit's file and reads that after a
# daemon-reload: 252 gets quotes, `%` and `\` back as something else, and no release escapes the `:` of BindPaths=.
PLAIN_PATH = String(
    rf"{_NO_PARENT}/(?:(?:[a-zA-Z0-9/._+@=-]|\{{index\}}){{1,1022}}|dev/(?:[a-zA-Z0-9/._+:@=-]|\{{index\}}){{1,1018}})",
    'an absolute path without "..", of ASCII letters, digits, /, ., _, -, +, @ and =, below /dev also :',
    1023,
    explain=_explain_plain_path,
)
# Only root can write there, so a policy cannot pass an arbitrary file of the host to a guest.
ROM_FOLDERS = ("/etc/vfagent/", "/opt/", "/srv/", "/usr/", "/var/lib/vfagent/")
ROM_FILE = String(
    f"{_NO_PARENT}(?:{'|'.join(ROM_FOLDERS)})[^,{_HIDDEN}]{{1,1000}}",
    f"a file below {', '.join(ROM_FOLDERS[:-1])} or {ROM_FOLDERS[-1]}",
    1023,
    explain=_explain_path,
)
CHAP_USER = String(r"(?:[a-zA-Z0-9._:@-]|\{index\}){1,223}", "a name of letters, digits, ., _, :, @ and -, at most 223")
PERIOD = String(
    "[1-9][0-9]{1,4}s|[1-9][0-9]{0,3}min|[1-9][0-9]?h", "10s to 99999s, 1min to 9999min, or 1h to 99h", convert=_seconds
)
MEMORY = String(
    "[1-9][0-9]{0,7}M|[1-9][0-9]{0,4}G|[1-9][0-9]?T",
    'a whole number with M, G or T, such as "512M"',
    convert=_mebibytes,
)
GUEST_NAME = String(
    r"(?:[a-z0-9]|\{index\})(?:[a-z0-9_-]|\{index\}){0,31}",
    "a name of a-z, 0-9, _ and -, not beginning with _ or -, at most 32",
    explain=_explain_guest,
)
VF_REFERENCE = String(
    rf"{_LABEL}(?::{_INDEX})?",
    'label:index of a VF such as "storage:0", or only a label for any free VF',
    convert=_references,
)
VF_REFERENCES = String(rf"{_LABEL}:(?:{_INDICES})", 'a label and VF indices such as "storage:0-3"', convert=_references)
VNC_SOCKET = "unix"
_DISPLAY = r"(?:0|[1-9][0-9]{0,3}|\{index\})"
VNC = String(
    rf"{VNC_SOCKET}|(?:127(?:\.{_OCTET}){{3}}|\[::1\]|localhost):{_DISPLAY}",
    f'"{VNC_SOCKET}", or a loopback address and a display such as "127.0.0.1:0"',
    words=(VNC_SOCKET,),
    explain=_explain_vnc,
)
VNC_REMOTE = String(rf"(?:{_IPV4}|\[(?:{_IPV6})\]):{_DISPLAY}", 'an address and a display such as "192.0.2.10:0"')
_URL = r"[!#-&(-\[\]-_a-~]"
_PORTALS = rf"iscsi:{_URL}{{1,1000}}(?: iscsi:{_URL}{{1,1000}}){{0,7}}"
BOOT_URL = String(
    rf"{_PORTALS}|https?://{_URL}{{1,1000}}",
    "an iscsi:, http: or https: URL without spaces, quotes, backslashes or control characters; of a disk with several"
    " portals their iscsi: URLs, with a space between",
    1023,
    convert=_boot_url,
)
ISCSI_URL = String(
    _PORTALS,
    "an iscsi: URL without spaces, quotes, backslashes or control characters, or several with a space between",
    1023,
    convert=_root_url,
)
# RFC 3720, 3.2.6.3; what stands after the last `:` is the owner's choice.
INITIATOR = String(
    r"(?:iqn\.[0-9]{4}-(?:0[1-9]|1[0-2])\.[a-zA-Z0-9.-]+(?::(?:[a-zA-Z0-9.:-]|\{index\})+)?|eui\.[0-9a-fA-F]{16})",
    'an iSCSI name such as "iqn.1993-08.org.debian:01:abcdef", of letters, digits, ., : and -',
    223,
)
LONGEST_COMMAND_LINE = 2047  # COMMAND_LINE_SIZE of x86, with the byte that ends it; the kernel drops the rest
COMMAND_LINE = String(
    f"[ -~]{{0,{LONGEST_COMMAND_LINE}}}",
    f"at most {LONGEST_COMMAND_LINE} printable ASCII characters",
    LONGEST_COMMAND_LINE,
)
DRIVER_GLOB = _line('a pattern such as "igb*"', 255, globs.name)
PATH_GLOB = _line('a pattern such as "pci-0000:3b:*"', 255, globs.path)
INTERFACE_GLOB = _line('a pattern such as "enp59s0f*"', 255, globs.name)
HOST_GLOB = _line('a pattern such as "kvm-*"', 255, globs.name)
PCI_GLOB = _line(globs.PCI, 255, globs.pci)
MAC_GLOB = _line(globs.MAC, 255, globs.mac)
HARDWARE_ID = String(r"(?:0[xX])?[0-9a-fA-F*?\[\]!-]{1,32}", globs.HARDWARE_ID, convert=globs.hardware_id)
DESCRIPTION = _line("a line of at most 200 characters", 200)
