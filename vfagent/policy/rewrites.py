# SPDX-License-Identifier: Apache-2.0
"""A value that is not allowed, in the form that is: `"4"` as `4`, `300` as `"300s"`, `"1Gbit"` as `1000`.

A form is only suggested where the policy accepts it.
"""

import re
from collections.abc import Iterator

from vfagent.policy import strings
from vfagent.policy.problems import KeyPath, quoted
from vfagent.policy.value_types import Array, MismatchError, Scalar, String

_LONGEST = 128
_SEVERAL: dict[tuple[str, ...], str] = {
    ("vf", "vlan"): "a VF has one port VLAN; with vlan = 0 its guest tags its frames itself",
    ("vf", "mac"): 'write [[pf.vf]] for each VF, with its index, or "stable"',
    ("vf", "driver"): "write [[pf.vf]] for each, with its index",
    **{
        ("match", key): "write a rule for each, or a pattern"
        for key in ("driver", "path", "pci", "vendor", "device", "mac", "interface", "host")
    },
}
_TRUE = ("1", "enable", "enabled", "on", "true", "yes")
_FALSE = ("0", "disable", "disabled", "false", "no", "off")
# What a keyword is called elsewhere. A form counts only where it is a keyword of the key.
_KEYWORDS = {
    **dict.fromkeys((*_TRUE, "up"), ("enable", "auto", "always", "switchdev", "unix")),
    **dict.fromkeys((*_FALSE, "down"), ("disable", "off", "no", "legacy")),
    **dict.fromkeys(("0x8100", "33024", "dot1q", "8021q", "vlan", "ctag"), ("802.1Q",)),
    **dict.fromkeys(("0x88a8", "34984", "qinq", "8021ad", "stag", "dot1ad"), ("802.1ad",)),
    **dict.fromkeys(("efi", "ovmf", "edk2", "uefi64"), ("uefi",)),
    **dict.fromkeys(("seabios", "legacy", "csm", "pc"), ("bios",)),
    **dict.fromkeys(("qcow", "qemu"), ("qcow2",)),
    **dict.fromkeys(("img", "block", "lvm", "iso"), ("raw",)),
    **dict.fromkeys(("auto", "automatic", "random", "generate", "generated", "fixed", "persistent"), ("stable",)),
    **dict.fromkeys(("", "none", "unchanged", "default", "ignore"), ("keep",)),
    **dict.fromkeys(("all", "any", "maximum"), ("max",)),
}
_NO_NUMBER = ("disable", "disabled", "no", "none", "off", "unlimited", "untagged")
_VENDORS = {"broadcom": "14e4", "chelsio": "1425", "intel": "8086", "mellanox": "15b3", "nvidia": "15b3"}
_RATE = re.compile(r"(?i)([0-9]{1,9}(?:\.[0-9]{1,9})?) ?([kmgt]?)(?:bits?(?:/s)?|bps|b/s)?")
_MEGABITS = {"": 1e-6, "k": 1e-3, "m": 1.0, "g": 1e3, "t": 1e6}
_MEMORY = re.compile(r"(?i)([0-9]{1,15}(?:\.[0-9]{1,3})?) ?([kmgt]?)(?:i?b|bytes)?")
_KIBIBYTES = {"k": 1, "m": 1 << 10, "g": 1 << 20, "t": 1 << 30}
_PERIOD = re.compile(r"(?i)(?:[0-9]{1,9} ?(?:s|m|h|d|w)[a-z]* ?)+")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_ISCSI_URI = re.compile(r"iscsi://([^/:]+)(?::([0-9]+))?/([^/]+)(?:/([0-9]+))?")
_PCI = re.compile(r"(?:pci-)?(?:([0-9a-fA-F]{1,4}):)?([0-9a-fA-F]{1,2}):([0-9a-fA-F]{1,2})(?:\.([0-7]))?")
_METRICS = re.compile(r"(?:[a-z]+://)?(\*|[^:/]*|[0-9a-f:]*:[0-9a-f:]*):([0-9]{1,5})(?:/.*)?")
_NETMASK = re.compile(r"([0-9.]+)/([0-9]+(?:\.[0-9]+){3})")
_INTERFACE = re.compile("(?:en|eth|ib)[a-z]*[0-9*]")  # as udev and the kernel name them
_INDEX_PLACE = re.compile(r"\$?\{+[^{}]*\}+|%[0-9]*[dxX]|\*|[xX]{1,2}$")


def rewritten(expected: Scalar | Array, value: object, *, hexadecimal: str = "") -> str:
    """`, did you mean "300s"?`, or nothing. `hexadecimal`: the digits of a number that is written as 0x8086."""
    item = expected.item if isinstance(expected, Array) else expected
    forms = (hexadecimal or None, *_forms(item, value))
    form = next((form for form in forms if form is not None and _accepts(item, form)), None)
    if form is None:
        return ""
    return f", did you mean {f'[{_toml(form)}]' if isinstance(expected, Array) else _toml(form)}?"


def matching(value: object) -> str:
    """`, did you mean { pci = "0000:3b:00.0" }?`, for a rule's `match` that is no table."""
    if not isinstance(value, str) or not re.fullmatch("[a-zA-Z0-9_.:*?-]{1,64}", value):
        return ""
    pci = _PCI.fullmatch(value)
    if value.startswith(("pci-", "platform-")):
        pair = "path", value
    elif pci:
        pair = "pci", next((form for form in _forms_of_pci_or_mac(value) if form), value)
    elif ":" in value:
        pair = "mac", value.lower()
    else:
        pair = "interface" if _INTERFACE.match(value) else "driver", value
    return f", did you mean {{ {pair[0]} = {quoted(pair[1])} }}?"


def several(path: KeyPath, value: object) -> str:
    """What to write where a key has one value and gets a list."""
    names = tuple(part for part in path if isinstance(part, str))[-2:]
    return f": {_SEVERAL[names]}" if isinstance(value, list) and names in _SEVERAL else ""


def _accepts(expected: Scalar, value: object) -> bool:
    try:
        expected.read(value)
    except MismatchError:
        return False
    return True


def _toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return quoted(value)
    return str(value)


def _forms(expected: Scalar, value: object) -> Iterator[object]:
    match value:
        case bool():
            yield from _keywords(expected, "true" if value else "false")
        case int():
            yield from _forms_of_number(expected, value)
        case float():
            yield int(value) if value.is_integer() else None
            yield f"{value * 100:.0f}%" if 0 < value < 1 else None
        case str() if len(value) <= _LONGEST:
            yield from _forms_of_text(expected, value)
        case [str(only)]:
            yield only
        case [*indices] if expected is strings.INDEX_SET and all(isinstance(index, int | str) for index in indices):
            yield ",".join(map(str, indices))


def _keywords(expected: Scalar, word: str) -> Iterator[str]:
    """A driver, a rule and a guest may have any name, so that no word of theirs is taken for another."""
    if not isinstance(expected, String) or (expected.words and expected is not strings.DRIVER):
        yield from _KEYWORDS.get(word, ())
    if expected is strings.METRICS and word in (*_TRUE, *_FALSE):
        yield "127.0.0.1:9862" if word in _TRUE else ""


def _forms_of_number(expected: Scalar, number: int) -> Iterator[object]:
    if expected is strings.VF_REFERENCE:
        return
    yield from (bool(number),) if number in (0, 1) else ()
    if abs(number) < 1 << 64:
        yield from (*_keywords(expected, str(number)), str(number))
    if 0 < number < 1 << 32:
        yield from (f"{number}%", f"{number}s", f"{number}M", f"127.0.0.1:{number}")


def _forms_of_text(expected: Scalar, text: str) -> Iterator[object]:
    word = text.strip().lower()
    yield from (text, text.strip(), word)
    yield from _keywords(expected, word)
    if re.fullmatch("[0-9]{1,9}", word):
        yield int(word)
        yield from _forms_of_number(expected, int(word))
    if word in _TRUE:
        yield True
    if word in _FALSE:
        yield False
    if word in _NO_NUMBER or word == "0%":
        yield 0
    if word in ("all", "any"):
        yield "*"
    yield from (
        _VENDORS.get(word),
        word.replace(" ", "") if expected not in (strings.LABEL, strings.GUEST_NAME) else None,
    )
    yield word.removesuffix(".ko")
    yield from _forms_of_quantity(word)
    yield from _forms_of_indices(expected, text)
    yield from _forms_of_pci_or_mac(text)
    yield from _forms_of_address(expected, text)
    if expected in (strings.LABEL, strings.GUEST_NAME):
        for name in (text, word):
            yield re.sub("[^a-zA-Z0-9_{}]+", "-", name).strip("-_")


def _forms_of_quantity(word: str) -> Iterator[object]:
    """A period first: where a time may be a number, too, the rate that `5m` could be is one."""
    if _PERIOD.fullmatch(word) is not None:
        seconds = sum(int(number) * _SECONDS[unit] for number, unit in re.findall("([0-9]+) ?([smhdw])", word))
        yield from (
            f"{seconds // size}{unit}" for unit, size in (("h", 3600), ("min", 60), ("s", 1)) if not seconds % size
        )
    if (rate := _RATE.fullmatch(word)) is not None and (rate[2] or word[-1] not in "0123456789"):
        yield int(float(rate[1]) * _MEGABITS[rate[2]])
    if (memory := _MEMORY.fullmatch(word)) is not None:
        kibibytes = float(memory[1]) * _KIBIBYTES[memory[2]] if memory[2] else float(memory[1]) / 1024
        units = (("G", 1 << 20), ("M", 1 << 10))
        yield from (f"{kibibytes / size:.0f}{unit}" for unit, size in units if kibibytes % size == 0)


def _forms_of_indices(expected: Scalar, text: str) -> Iterator[str]:
    """VF indices, and what stands for one in a template."""
    if expected is strings.INDEX_SET:
        plain = re.sub("(?i)vf", "", text)
        yield from (re.sub(r"\.\.+|:|\bto\b", "-", plain).replace(" ", ""), re.sub("[;/ ]+", ",", plain))
    if expected in (strings.VF_REFERENCE, strings.VF_REFERENCES):
        yield from (re.sub(r"[\[/](?:vf)?([0-9]+)\]?$", r":\1", text), text.removesuffix(":*"), f"{text}:*")
    yield _INDEX_PLACE.sub("{index:02x}" if ":" in text else "{index}", text)


def _forms_of_pci_or_mac(text: str) -> Iterator[str | None]:
    digits = re.sub("[-.:]", "", text)
    if re.fullmatch("[0-9a-fA-F]{12}", digits):
        octets = re.findall("..", digits.lower())
        yield from (":".join(octets), "stable" if octets == ["ff"] * 6 else None)
        yield from (":".join([f"{int(octets[0], 16) & 0xFE:02x}", *octets[1:]]), "stable")
    if re.fullmatch("[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){1,4}:?", text):
        yield f"{text.rstrip(':').lower()}:*"
    if (pci := _PCI.fullmatch(text)) is not None:
        domain, bus, device = (int(part or "0", 16) for part in pci.groups()[:3])
        yield f"{domain:04x}:{bus:02x}:{device:02x}.{pci[4] or '*'}"


def _forms_of_address(expected: Scalar, text: str) -> Iterator[str]:
    if (iscsi := _ISCSI_URI.fullmatch(text)) is not None:
        server, port, target, lun = (part or "" for part in iscsi.groups())
        yield f"iscsi:{server}::{port}:{lun}:{target}"
    if (metrics := _METRICS.fullmatch(text)) is not None:
        host = metrics[1] if metrics[1] not in ("", "*") else "127.0.0.1"
        yield f"[{host}]:{metrics[2]}" if ":" in host else f"{host}:{metrics[2]}"
    if text[:1] == ":" or expected is strings.METRICS:
        yield f"127.0.0.1{text}" if text[:1] == ":" else f"unix:{text}"
    if re.fullmatch("[0-9.]+|[0-9a-fA-F:]+", text):
        yield from (f"{text}/{64 if ':' in text else 24}", f"{text}:9862")
    if (masked := _NETMASK.fullmatch(text)) is not None:
        yield f"{masked[1]}/{sum(int(octet).bit_count() for octet in masked[2].split('.'))}"
    if re.fullmatch("[0-9]{1,3}(?:[.][0-9]{1,3}){3}/[0-9]{1,2}", text):
        address, _, length = text.partition("/")
        octets = [int(octet) for octet in address.split(".")]
        yield f"{'.'.join(map(str, octets))}/{length}"
        yield f"{'.'.join(map(str, [*octets[:3], octets[3] + 1]))}/{length}"
