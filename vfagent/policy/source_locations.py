# SPDX-License-Identifier: Apache-2.0
"""A parsed file, and a key's place in it."""

from collections.abc import Mapping
from dataclasses import dataclass

from vfagent.frozen import frozen
from vfagent.policy.positions import Positions
from vfagent.policy.problems import Finding, KeyPath, Problem, spelled


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """One file: its name, where its keys stand, and what the TOML parser made of it."""

    file: str
    positions: Positions
    tables: Mapping[str, object]

    def problem(self, finding: Finding) -> Problem:
        line, column = self.positions.of(finding.path, key=finding.at_key)
        return Problem(self.file, line, column, spelled(finding.path), finding.text)


@frozen(slots=True)
class Place:
    """A place in a policy file that a problem is about."""

    document: Document
    path: KeyPath

    def __truediv__(self, part: str | int) -> "Place":
        return Place(self.document, (*self.path, part))

    def __str__(self) -> str:
        """`policy.toml:12: pf[0].name`, for a message about another place."""
        line, _ = self.document.positions.of(self.path)
        return f"{self.document.file}:{line}: {spelled(self.path)}"

    def problem(self, text: str) -> Problem:
        return self.document.problem(Finding(self.path, text))
