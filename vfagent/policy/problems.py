# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a policy, and how keys and found values are spelled in the message."""

from vfagent.frozen import frozen
from vfagent.model.printable import printable

KeyPath = tuple[str | int, ...]

_LONGEST_SHOWN = 64
_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


@frozen(slots=True)
class Problem:
    """One line of a PolicyError; line 0 means the file as a whole, an empty key no key in particular.

    `errno` is why the system did not give the file, 0 where it did.
    """

    file: str
    line: int
    column: int
    key: str
    text: str
    errno: int = 0

    def __str__(self) -> str:
        place = f"{printable(self.file)}:{self.line}:{self.column}" if self.line else printable(self.file)
        return f"{place}: {self.key}: {self.text}" if self.key else f"{place}: {self.text}"


@frozen(slots=True)
class Finding:
    """A problem of one key, before its place is known; `in_schema` if the JSON Schema says so too."""

    path: KeyPath
    text: str
    at_key: bool = False
    in_schema: bool = True


def quoted(text: str) -> str:
    cut = text[:_LONGEST_SHOWN] + "…" if len(text) > _LONGEST_SHOWN else text
    return f'"{printable(cut)}"'


def spelled(path: KeyPath) -> str:
    """`pf[0].vf[1].vlan`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{_spelled_key(part)}" for part in path).lstrip(".")


def _spelled_key(key: str) -> str:
    return key if key and len(key) <= _LONGEST_SHOWN and _BARE.issuperset(key) else quoted(key)


def described(found: object) -> str:
    """A value from TOML as an error message shows it."""
    match found:
        case bool():
            return "true" if found else "false"
        case int():
            # str() refuses integers of more than 4300 digits, and nobody wants to read the shorter ones.
            return str(found) if abs(found) < 1 << 64 else "an integer beyond 64 bits"
        case float():
            return str(found)
        case str():
            return quoted(found)
        case dict():
            return "a table"
        case list():
            return "an array"
    return "a date or time"
