# SPDX-License-Identifier: Apache-2.0
"""What vfagent does about each row of docs/cards.md, taken out: the entries of quirk_mutations.toml."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1] / "vfagent"


@dataclass(frozen=True, slots=True)
class Edit:
    file: str  # below vfagent/
    old: str  # is there once
    new: str


@dataclass(frozen=True, slots=True)
class Mutation:
    row: str
    file: str
    test: str
    case: str
    cards: tuple[str, ...]
    edits: tuple[Edit, ...]

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Self:
        file, _, test = entry["test"].partition("::")
        case = entry.get("case", "")
        edits = tuple(Edit(edit["file"], edit["old"], edit["new"]) for edit in (entry, *entry.get("also", ())))
        return cls(entry["row"], file, test, case, tuple(entry.get("cards", [case])), edits)

    @property
    def name(self) -> str:
        return f"{self.row}-{self.test}" + (f"-{self.case}" if self.case else "")

    def sources(self) -> dict[str, str]:
        """The changed files, by their path below vfagent/."""
        texts: dict[str, str] = {}
        for edit in self.edits:
            text = texts.get(edit.file) or (PACKAGE / edit.file).read_text()
            assert text.count(edit.old) == 1, f"{self.row}: {edit.file} has {edit.old!r} {text.count(edit.old)} times"
            texts[edit.file] = text.replace(edit.old, edit.new)
        return texts


_ENTRIES = tomllib.loads((HERE / "quirk_mutations.toml").read_text())["mutation"]
MUTATIONS = tuple(map(Mutation.of, _ENTRIES))
