# SPDX-License-Identifier: Apache-2.0
"""A rule as TOML text. Names of devices and interfaces are the kernel's or udev's: any character may be in them."""

from collections.abc import Iterator, Mapping
from typing import Any

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


def rule_lines(header: str, rule: Mapping[str, Any]) -> Iterator[str]:
    """`[[header]]` and its keys, then the arrays of tables in it."""
    yield f"[[{header}]]"
    arrays = {key: value for key, value in rule.items() if _is_array_of_tables(value)}
    yield from (f"{key} = {value_text(value)}" for key, value in rule.items() if key not in arrays)
    for key, tables in arrays.items():
        for table in tables:
            yield ""
            yield from rule_lines(f"{header}.{key}", table)


def _is_array_of_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def value_text(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            return _string(value)
        case list():
            return f"[{', '.join(map(value_text, value))}]"
        case dict():
            return f"{{ {', '.join(f'{key} = {value_text(item)}' for key, item in value.items())} }}"
    raise TypeError(f"no TOML value: {value!r}")


def _string(text: str) -> str:
    """A basic string. TOML allows no lone surrogates, which Python makes of a name that is not UTF-8."""
    return f'"{"".join(map(_character, text))}"'


def _character(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    if "\ud800" <= letter <= "\udfff":
        return "?"
    return letter if letter.isprintable() else f"\\U{ord(letter):08x}"
