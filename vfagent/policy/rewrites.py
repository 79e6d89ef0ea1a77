# SPDX-License-Identifier: Apache-2.0
"""A value that is not allowed, in the form that is: `"4"` as `4`, `300` as `"300s"`, `"1Gbit"` as `1000`.

A form is only suggested where the policy accepts it.
"""

import re
from collections.abc import Iterator

from vfagent.policy import strings
from vfagent.policy.problems import quoted
from vfagent.policy.value_types import Array, MismatchError, Scalar

_LONGEST = 128
_SEVERAL: dict[str | int, str] = {
    "vlan": "a VF has one port VLAN; with vlan = 0 its guest tags its frames itself",
    **dict.fromkeys(
        ("driver", "path", "pci", "vendor", "device", "mac", "interface", "host"), "write a rule for each, or a pattern"
    ),
}
_TRUE = ("1", "enable", "enabled", "on", "true", "yes")
_FALSE = ("0", "disable", "disabled", "false", "no", "off")
_RATE = re.compile(r"(?i)([0-9]+(?:\.[0-9]+)?) ?([kmgt]?)(?:bits?(?:/s)?|bps|b/s)")
_MEGABITS = {"": 1e-6, "k": 1e-3, "m": 1.0, "g": 1e3, "t": 1e6}
_MEMORY = re.compile(r"(?i)([0-9]+) ?([mgt])(?:i?b)?")
_PERIOD = re.compile(r"(?i)([0-9]+) ?(s|m|h)[a-z]*")
_PERIODS = {"s": "s", "m": "min", "h": "h"}
_ISCSI_URI = re.compile(r"iscsi://([^/:]+)(?::([0-9]+))?/([^/]+)(?:/([0-9]+))?")
_PCI = re.compile(r"(?:([0-9a-fA-F]{1,4}):)?([0-9a-fA-F]{1,2}):([0-9a-fA-F]{1,2})\.([0-7])")


def rewritten(expected: Scalar | Array, value: object, *, hexadecimal: str = "") -> str:
    """`, did you mean "300s"?`, or nothing. `hexadecimal`: the digits of a number that is written as 0x8086."""
    item = expected.item if isinstance(expected, Array) else expected
    forms = (hexadecimal, *_forms(item, value))
    form = next((form for form in forms if form != "" and _accepts(item, form)), None)
    if form is None:
        return ""
    return f", did you mean {f'[{_toml(form)}]' if isinstance(expected, Array) else _toml(form)}?"


def several(key: str | int, value: object) -> str:
    """What to write where a key has one value and gets a list."""
    return f": {_SEVERAL[key]}" if isinstance(value, list) and key in _SEVERAL else ""


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
            yield "enable" if value else "disable"
        case int():
            yield from _forms_of_number(value)
        case float():
            if value.is_integer():
                yield int(value)
        case str() if len(value) <= _LONGEST:
            yield from _forms_of_text(expected, value)
        case [str(only)]:
            yield only
        case [*indices] if expected is strings.INDEX_SET and all(isinstance(index, int) for index in indices):
            yield ",".join(map(str, indices))


def _forms_of_number(number: int) -> Iterator[str]:
    yield str(number) if abs(number) < 1 << 64 else ""
    if 0 < number < 1 << 32:
        yield from (f"{number}%", f"{number}s", f"{number}M", f"127.0.0.1:{number}")


def _forms_of_text(expected: Scalar, text: str) -> Iterator[object]:
    word = text.strip().lower()
    yield from (text, text.strip(), word)
    if re.fullmatch("[0-9]{1,9}", word):
        yield int(word)
    if word in _TRUE:
        yield from (True, "enable")
    if word in _FALSE:
        yield from (False, "disable")
    if word in ("all", "any", "maximum"):
        yield from ("max", "*")
    yield from _forms_of_quantity(word)
    yield from _forms_of_address(text)
    if expected in (strings.LABEL, strings.GUEST_NAME):
        for name in (text, word):
            yield re.sub("[^a-zA-Z0-9_{}]+", "-", name).strip("-_")


def _forms_of_quantity(word: str) -> Iterator[object]:
    if (rate := _RATE.fullmatch(word)) is not None:
        yield int(float(rate[1]) * _MEGABITS[rate[2]])
    if (memory := _MEMORY.fullmatch(word)) is not None:
        yield f"{memory[1]}{memory[2].upper()}"
    if (period := _PERIOD.fullmatch(word)) is not None:
        yield f"{period[1]}{_PERIODS[period[2]]}"


def _forms_of_address(text: str) -> Iterator[str]:
    digits = re.sub("[-.:]", "", text)
    if re.fullmatch("[0-9a-fA-F]{12}", digits):
        yield ":".join(re.findall("..", digits.lower()))
    if (pci := _PCI.fullmatch(text)) is not None:
        domain, bus, device = (int(part or "0", 16) for part in pci.groups()[:3])
        yield f"{domain:04x}:{bus:02x}:{device:02x}.{pci[4]}"
    if (iscsi := _ISCSI_URI.fullmatch(text)) is not None:
        server, port, target, lun = (part or "" for part in iscsi.groups())
        yield f"iscsi:{server}::{port}:{lun}:{target}"
    if re.fullmatch("[0-9.]+|[0-9a-fA-F:]+", text):
        yield f"{text}/{64 if ':' in text else 24}"
