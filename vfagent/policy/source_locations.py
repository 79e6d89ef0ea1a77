# SPDX-License-Identifier: Apache-2.0
"""A parsed file, and the location of a key in it."""

from collections.abc import Mapping
from dataclasses import dataclass

from vfagent.frozen import frozen
from vfagent.model.printable import printable
from vfagent.policy.positions import Positions
from vfagent.policy.problems import Finding, KeyPath, Problem, spelled


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """One file: its name, the positions of its keys, and its tables from the TOML parser."""

    file: str
    positions: Positions
    tables: Mapping[str, object]

    def problem(self, finding: Finding) -> Problem:
        line, column = self.positions.of(finding.path, key=finding.at_key)
        return Problem(self.file, line, column, spelled(finding.path), finding.text)


@frozen(slots=True)
class Location:
    """A key or table in a policy file, for problems about it."""

    document: Document
    path: KeyPath

    def __truediv__(self, part: str | int) -> "Location":
        return Location(self.document, (*self.path, part))

    def __str__(self) -> str:
        """`policy.toml:12: pf[0].name`, for a message about another location."""
        line, _ = self.document.positions.of(self.path)
        return f"{printable(self.document.file)}:{line}: {spelled(self.path)}"

    def problem(self, text: str) -> Problem:
        return self.document.problem(Finding(self.path, text))
