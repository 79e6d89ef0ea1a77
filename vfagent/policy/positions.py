# SPDX-License-Identifier: Apache-2.0
"""The line and column of each key in a TOML text. TOML parsers do not report them, so this scans the text again.

It never fails: it stops at the first text it cannot parse. A key after that gets the position of its nearest parent.
"""

import re
from bisect import bisect_right
from dataclasses import dataclass, field

from vfagent.frozen import frozen
from vfagent.policy.problems import KeyPath

DEEPEST = 32
_SHOWN = 120  # characters of a line on either side of a problem; a line may be a file of its own

_SPACE = r"[ \t\r]*"
_BLANK = r"(?:[ \t\r\n]|#[^\n]*)*"
_STRING = (
    r'"""(?:[^\\]|\\[\s\S])*?"{3,5}|'
    r"'''[\s\S]*?'{3,5}|"
    r'"(?:[^"\\\n]|\\.)*"|'
    r"'[^'\n]*'"
)
_KEY = r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'"""
_BARE_VALUE = r"[^,\]}#\n]+"
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b", '"': '"', "\\": "\\"}


@frozen(slots=True)
class Duplicate:
    """A key or a table that occurs a second time; `first` and `offset` are offsets of the two."""

    path: KeyPath
    first: int
    offset: int
    table: bool


@dataclass(slots=True)
class Positions:
    """The offsets at which the keys and values of a TOML text begin."""

    text: str
    keys: dict[KeyPath, int] = field(default_factory=dict)  # offsets
    values: dict[KeyPath, int] = field(default_factory=dict)
    duplicates: list[Duplicate] = field(default_factory=list)
    too_deep: int | None = None  # where nesting passes DEEPEST
    stopped: int | None = None  # where the scan met a syntax error
    opened: int | None = None  # the innermost array or inline table that was open there
    _lines: list[int] = field(default_factory=list)

    def of(self, path: KeyPath, *, key: bool = False) -> tuple[int, int]:
        """Line and column of a value, or of its key; of the nearest parent where there is none."""
        first, second = (self.keys, self.values) if key else (self.values, self.keys)
        for length in range(len(path), 0, -1):
            offset = first.get(path[:length], second.get(path[:length]))
            if offset is not None:
                return self.line_column(offset)
        return 1, 1

    def line_column(self, offset: int) -> tuple[int, int]:
        lines = self._line_starts()
        line = bisect_right(lines, offset)
        return line, offset - lines[line - 1] + 1

    def _line_starts(self) -> list[int]:
        if not self._lines:
            self._lines = [0, *(match.end() for match in re.finditer("\n", self.text))]
        return self._lines

    def source(self, line: int, column: int) -> tuple[str, int]:
        """The text of a line around a column, and how many characters before it are left out."""
        starts = self._line_starts()
        start = starts[line - 1] if line <= len(starts) else len(self.text)
        cut = max(column - 1 - _SHOWN, 0)
        end = self.text.find("\n", start)
        return self.text[start + cut : min(start + cut + 2 * _SHOWN, end if end >= 0 else len(self.text))].rstrip(
            "\r"
        ), cut


class _SyntaxError(Exception):
    """The text is not TOML as far as this scanner knows it."""


class _Scanner:
    def __init__(self, positions: Positions) -> None:
        self.text = positions.text
        self.positions = positions
        self.at = 0
        self.arrays: dict[KeyPath, int] = {}
        self.tables: dict[KeyPath, int] = {}
        self.open: list[int] = []  # arrays and inline tables

    def document(self) -> None:
        table: KeyPath = ()
        while self.skip(_BLANK) and self.at < len(self.text):
            if self.text[self.at] == "[":
                table = self.header()
            else:
                self.pair(table, 0)
            self.skip(_SPACE)
            if self.at < len(self.text) and self.text[self.at] not in "\n#":
                raise _SyntaxError

    def skip(self, pattern: str) -> bool:
        match = re.compile(pattern).match(self.text, self.at)
        self.at = match.end() if match else self.at
        return match is not None

    def take(self, pattern: str) -> str:
        start = self.at
        if not self.skip(pattern):
            raise _SyntaxError
        return self.text[start : self.at]

    def dotted(self) -> list[tuple[str, int]]:
        parts: list[tuple[str, int]] = []
        while True:
            self.skip(_SPACE)
            start = self.at
            parts.append((_key_text(self.take(_KEY)), start))
            self.skip(_SPACE)
            if not self.skip(r"\."):
                return parts
            self.check_depth(len(parts))

    def header(self) -> KeyPath:
        start, array = self.at, self.text.startswith("[[", self.at)
        self.take(r"\[\[" if array else r"\[")
        path: KeyPath = ()
        parts = self.dotted()
        for number, (part, offset) in enumerate(parts):
            path = (*path, part)
            self.positions.keys.setdefault(path, offset)
            self.positions.values.setdefault(path, start)
            if number == len(parts) - 1:
                self.note_duplicate(path, start, array=array)
            if array and number == len(parts) - 1:
                self.arrays[path] = self.arrays.get(path, 0) + 1
            if path in self.arrays:
                path = (*path, self.arrays[path] - 1)
                self.positions.values.setdefault(path, start)
        if not array:
            self.positions.values[path] = start
        self.take(r"\]\]" if array else r"\]")
        return path

    def note_duplicate(self, path: KeyPath, start: int, *, array: bool) -> None:
        """A table with the name of an earlier key, table or array of tables, or an array with the name of a table."""
        value = self.positions.values.get(path, start)
        if path not in self.tables and value < start and self.text[value] != "[":
            self.positions.duplicates.append(Duplicate(path, value, start, table=True))
        first = self.tables.setdefault(path, start)
        if first != start and not (array and path in self.arrays):
            self.positions.duplicates.append(Duplicate(path, first, start, table=True))

    def pair(self, table: KeyPath, depth: int) -> None:
        path, parts = table, self.dotted()
        for number, (part, offset) in enumerate(parts, 1):
            path = (*path, part)
            self.positions.keys.setdefault(path, offset)
            if number < len(parts):
                self.tables.setdefault(path, offset)
        if path in self.positions.values:
            self.positions.duplicates.append(Duplicate(path, self.positions.keys[path], parts[-1][1], table=False))
        self.take(rf"={_SPACE}")
        self.value(path, depth + len(parts))

    def value(self, path: KeyPath, depth: int) -> None:
        self.check_depth(depth)
        self.positions.values[path] = self.at
        opening = self.text[self.at : self.at + 1]
        if opening in ("[", "{"):
            self.open.append(self.at)
            (self.array if opening == "[" else self.inline_table)(path, depth)
            self.open.pop()
        elif opening in ('"', "'"):
            self.take(_STRING)
        else:
            self.take(_BARE_VALUE)

    def array(self, path: KeyPath, depth: int) -> None:
        self.take(r"\[")
        number = 0
        while self.skip(_BLANK) and not self.skip(r"\]"):
            self.value((*path, number), depth + 1)
            self.skip(_BLANK)
            self.skip(",")
            number += 1
            self.check_end()

    def inline_table(self, path: KeyPath, depth: int) -> None:
        self.take(r"\{")
        while self.skip(_BLANK) and not self.skip(r"\}"):
            self.pair(path, depth)
            self.skip(_BLANK)
            self.skip(",")
            self.check_end()

    def check_end(self) -> None:
        if self.at >= len(self.text):
            raise _SyntaxError

    def check_depth(self, depth: int) -> None:
        if depth > DEEPEST:
            self.positions.too_deep = self.at
            raise _SyntaxError


def _key_text(key: str) -> str:
    if key[0] == "'":
        return key[1:-1]
    if key[0] != '"':
        return key
    return re.sub(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|x[0-9a-fA-F]{2}|.)", _unescaped, key[1:-1])


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    if len(code) == 1:
        return _ESCAPES.get(code, code)
    number = int(code[1:], 16)
    return chr(number) if number < 0x110000 else "?"


def is_string(text: str, offset: int) -> bool:
    return bool(string_at(text, offset))


def string_at(text: str, offset: int) -> str:
    """The string that begins there, with its quotes; "" where none does."""
    match = re.compile(_STRING).match(text, offset)
    return match[0] if match else ""


def scan(text: str) -> Positions:
    positions = Positions(text)
    scanner = _Scanner(positions)
    try:
        scanner.document()
    except _SyntaxError:
        positions.stopped = scanner.at
        positions.opened = scanner.open[-1] if scanner.open else None
    return positions
