# SPDX-License-Identifier: Apache-2.0
"""Moves of addresses that were begun, on disk: whoever comes after a crash ends them, or takes them back."""

import json
import os
from pathlib import Path

from vfagent.host.state import write_json
from vfagent.model.codec import decode, encode
from vfagent.model.network import Move


class MoveJournal:
    def __init__(self, root: Path = Path("/")) -> None:
        self._folder = root / "var/lib/vfagent/moves"

    def pending(self) -> tuple[Move, ...]:
        try:
            names = sorted(name for name in os.listdir(self._folder) if not name.startswith("."))
        except OSError:
            return ()
        return tuple(move for name in names if (move := self._read(name)))

    def _read(self, name: str) -> Move | None:
        try:
            return decode(Move, json.loads((self._folder / name).read_bytes()))
        except (OSError, ValueError, RecursionError):
            return None  # it is written whole: what cannot be read was never begun

    def keep(self, move: Move) -> None:
        """On disk when it returns. Raises OSError."""
        write_json(self._folder / f"{move.target}.json", encode(move), durable=True)

    def forget(self, move: Move) -> None:
        (self._folder / f"{move.target}.json").unlink(missing_ok=True)
