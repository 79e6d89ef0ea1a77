# SPDX-License-Identifier: Apache-2.0
"""A parsed file, and the location of a key in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vfagent.frozen import frozen
from vfagent.model.printable import printable
from vfagent.policy.positions import Positions
from vfagent.policy.problems import Finding, KeyPath, Problem, quoted, spelled

_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """One file: its name, the positions of its keys, and its tables from the TOML parser."""

    file: str
    positions: Positions
    tables: Mapping[str, object]

    def problem(self, finding: Finding) -> Problem:
        line, column = self.positions.of(finding.path, key=finding.at_key)
        source, cut = self.positions.source(line, column)
        key, rule, named = spelled(finding.path), _name(self._table(finding.path[:2]), ""), self.named(finding.path)
        return Problem(self.file, line, column, key, finding.text, rule=rule, named=named, source=source, cut=cut)

    def named(self, path: KeyPath) -> str:
        """`pf "storage".vf "0-2".vlan`. Nobody counts the rules of a file, and `vf[1]` would be taken for VF 1."""
        parts: list[str] = []
        for length, part in enumerate(path, 1):
            name = _name(self._table(path[:length]), path[length - 2]) if isinstance(part, int) else ""
            dot = "." if isinstance(part, str) else ""
            parts.append(f" {quoted(name)}" if name else f"{dot}{spelled((part,))}")
        return "".join(parts).removeprefix(".")

    def _table(self, path: KeyPath) -> object:
        value: Any = self.tables
        for part in path:
            known = isinstance(value, dict) and part in value
            if not known and not (isinstance(value, list) and isinstance(part, int) and part < len(value)):
                return None
            value = value[part]
        return value


def _name(table: object, array: str | int) -> str:
    """What a table of an array is known by: its name, or the VFs that it is for, all where it names none."""
    name = table.get("name", table.get("index", "*" if array == "vf" else None)) if isinstance(table, dict) else None
    return name if isinstance(name, str) and len(name) <= _LONGEST_NAME else ""


@frozen(slots=True)
class Location:
    """A key or table in a policy file, for problems about it."""

    document: Document
    path: KeyPath

    def __truediv__(self, part: str | int) -> "Location":
        return Location(self.document, (*self.path, part))

    def __str__(self) -> str:
        """`policy.toml:12: pf "storage".vf[0].index`, for a message about another location."""
        line, _ = self.document.positions.of(self.path)
        return f"{printable(self.document.file)}:{line}: {self.document.named(self.path)}"

    def problem(self, text: str) -> Problem:
        return self.document.problem(Finding(self.path, text))
