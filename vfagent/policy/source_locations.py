# SPDX-License-Identifier: Apache-2.0
"""A parsed file, and the location of a key in it."""

from collections.abc import Mapping
from dataclasses import dataclass

from vfagent.frozen import frozen
from vfagent.model.printable import printable
from vfagent.policy.positions import Positions
from vfagent.policy.problems import Finding, KeyPath, Problem, named, spelled

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
        key, rule = spelled(finding.path), self.rule_name(finding.path)
        return Problem(self.file, line, column, key, finding.text, rule=rule, source=source, cut=cut)

    def rule_name(self, path: KeyPath) -> str:
        match path:
            case (str(array), int(number), *_):
                rules = self.tables.get(array)
                rule = rules[number] if isinstance(rules, list) and number < len(rules) else None
                name = rule.get("name") if isinstance(rule, dict) else None
                return name if isinstance(name, str) and len(name) <= _LONGEST_NAME else ""
        return ""


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
        key = named(spelled(self.path), self.document.rule_name(self.path))
        return f"{printable(self.document.file)}:{line}: {key}"

    def problem(self, text: str) -> Problem:
        return self.document.problem(Finding(self.path, text))
