# SPDX-License-Identifier: Apache-2.0
"""The unit properties that a policy may set, from unit-file spelling to D-Bus' types. Pure."""

import re
from collections.abc import Iterable, Iterator

from vfagent.model.guest_unit import Property

_INFINITY = (1 << 64) - 1
_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_TIMES = {"": 1, "s": 1, "min": 60, "h": 3600}
_POLICIES = {"default": 0, "preferred": 1, "bind": 2, "interleave": 3, "local": 4}  # set_mempolicy(2)

_SETS = ("AllowedCPUs", "AllowedMemoryNodes", "CPUAffinity", "NUMAMask")
_MEMORY = ("MemoryHigh", "MemoryLow", "MemoryMax", "MemoryMin", "MemorySwapMax")
# Dependencies: those of the rule come to the ones that every guest has.
ADDED = frozenset({"After", "Requires", "RequiresMountsFor", "Wants"})
_SPANS = ("RestartSec", "StartLimitIntervalSec", "TimeoutStopSec")
_INTEGERS = {
    **dict.fromkeys(("CPUWeight", "IOWeight", "LimitNOFILE", "StartupCPUWeight"), "t"),
    **dict.fromkeys(("Nice", "OOMScoreAdjust"), "i"),
    "StartLimitBurst": "u",
}

Value = str | int | float | bool


def translated(unit: Iterable[tuple[str, Value]]) -> Iterator[Property]:
    for name, value in unit:
        yield _translate(name, value)


def _translate(name: str, value: Value) -> Property:
    text = str(value)
    if name in _SETS:
        return Property(name, "ay", bit_set(numbers(text)))
    if name in _MEMORY:
        return _size(name, text)
    if name in ADDED:
        return Property(name, "as", text.split())
    if name in _INTEGERS:
        return Property(name, _INTEGERS[name], int(text))
    if name in _SPANS:
        endless = text == "infinity"
        return Property(f"{name.removesuffix('Sec')}USec", "t", _INFINITY if endless else int(seconds(text) * 1e6))
    match name:
        case "CPUQuota":
            return Property("CPUQuotaPerSecUSec", "t", int(text.removesuffix("%")) * 10_000)
        case "NUMAPolicy":
            return Property(name, "i", _POLICIES[text])
        case "TasksMax":
            return Property(name, "t", _INFINITY if text == "infinity" else int(text))
        case _:
            return Property(name, "s", text)


def _size(name: str, text: str) -> Property:
    if text == "infinity":
        return Property(name, "t", _INFINITY)
    if text.endswith("%"):
        return Property(f"{name}Scale", "u", int(text[:-1]) * ((1 << 32) - 1) // 100)
    number, unit = re.fullmatch("([0-9]+)([KMGT]?)", text).groups()  # type: ignore[union-attr]
    return Property(name, "t", int(number) * _SIZES[unit])


def seconds(value: Value) -> float:
    """`90`, `90s`, `5min`, `1h` or `infinity`."""
    if value == "infinity":
        return float("inf")
    number, unit = re.fullmatch("([0-9]+)([a-z]*)", str(value)).groups()  # type: ignore[union-attr]
    return float(number) * _TIMES[unit]


def numbers(text: str) -> Iterator[int]:
    """`0-3,8` as systemd reads it."""
    for part in text.replace(",", " ").split():
        low, _, high = part.partition("-")
        yield from range(int(low), int(high or low) + 1)


def bit_set(members: Iterable[int]) -> bytes:
    """As systemd's D-Bus interface has CPU sets: number 0 is bit 0 of byte 0."""
    mask = sum(1 << number for number in set(members))
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")
