# SPDX-License-Identifier: Apache-2.0
"""Moves of addresses that were begun, for whoever comes after a crash; and whose the addresses were.

A boot undoes all that was taken, and so may forget it.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from vfagent.host.state import write_json
from vfagent.model.codec import decode, encode
from vfagent.model.network import Move, Taken

_T = TypeVar("_T")


class MoveJournal:
    def __init__(self, root: Path = Path("/")) -> None:
        self._moves = root / "var/lib/vfagent/moves"
        self._taken = root / "run/vfagent/taken"

    def pending(self) -> tuple[Move, ...]:
        return tuple(_read_all(Move, self._moves))

    def keep(self, move: Move) -> None:
        """On disk when it returns. Raises OSError."""
        write_json(self._moves / f"{move.target}.json", encode(move), durable=True)

    def forget(self, move: Move) -> None:
        (self._moves / f"{move.target}.json").unlink(missing_ok=True)

    def taken(self) -> tuple[Taken, ...]:
        return tuple(_read_all(Taken, self._taken))

    def take(self, taken: Taken) -> None:
        """Raises OSError."""
        write_json(self._taken / _file_name(taken.address), encode(taken))

    def give(self, address: str) -> None:
        """It is where it was taken from."""
        (self._taken / _file_name(address)).unlink(missing_ok=True)


def _file_name(address: str) -> str:
    return f"{address.replace('/', '_')}.json"


def _read_all(kind: type[_T], folder: Path) -> Iterator[_T]:
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError:
        return
    for name in names:
        # It is written whole: what cannot be read was never begun.
        with contextlib.suppress(OSError, ValueError, RecursionError):
            yield decode(kind, json.loads((folder / name).read_bytes()))
