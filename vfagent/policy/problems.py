# SPDX-License-Identifier: Apache-2.0
"""Problems of a policy, and how their messages spell keys and values."""

from vfagent.frozen import frozen
from vfagent.model.printable import printable

KeyPath = tuple[str | int, ...]

_LONGEST_SHOWN = 64
_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


@frozen(slots=True)
class Problem:
    """One line of a PolicyError, or a warning. Line 0 means the whole file; an empty file or key none in particular.

    `errno` is set if the file could not be read, else 0. `rule` is the name of the rule that has the key, `named` the
    key as a message shows it. `source` is the text of the line, without its first `cut` characters.
    """

    file: str
    line: int
    column: int
    key: str
    text: str
    errno: int = 0
    rule: str = ""
    named: str = ""
    source: str = ""
    cut: int = 0

    def __str__(self) -> str:
        location = f"{printable(self.file)}:{self.line}:{self.column}" if self.line else printable(self.file)
        return f"{location}: {self.about}" if location else self.about

    @property
    def about(self) -> str:
        """The key and the text."""
        return f"{self.named or self.key}: {self.text}" if self.key else self.text


@frozen(slots=True)
class Finding:
    """A problem of one key, without its line; `in_schema` if the JSON Schema rejects the value too."""

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


def described(value: object) -> str:
    """A TOML value as a message shows it."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            # str() raises ValueError for more than 4300 digits, and shorter numbers of that kind are unreadable.
            return str(value) if abs(value) < 1 << 64 else "an integer beyond 64 bits"
        case float():
            return str(value)
        case str():
            return quoted(value)
        case dict():
            return "a table"
        case list():
            return "an array"
    return "a date or time"
