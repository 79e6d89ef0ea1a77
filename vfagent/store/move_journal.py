# SPDX-License-Identifier: Apache-2.0
"""The journal of unfinished address moves, for the next agent after a crash; and where borrowed addresses belong.

The records of borrowed addresses are in /run: a reboot returns the addresses.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO, TypeVar

from vfagent.kernel.rooted import read_regular
from vfagent.model.codec import decode, encode
from vfagent.model.network import Borrowed, Move
from vfagent.store.state import write_json

_T = TypeVar("_T")
_MOST = 1 << 20
_PATIENCE_S = 20.0  # a probe without an answer takes 10 s; a worker without a report is ended after 30 s


class MoveJournal:
    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._moves = root / "var/lib/vfagent/moves"
        self._borrowed = root / "run/vfagent/borrowed"
        self._lock = root / "run/vfagent/moves.lock"

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Only one process at a time moves addresses. Raises TimeoutError while another does."""
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._lock, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            _lock(file, time.monotonic() + _PATIENCE_S)
            yield

    def pending(self) -> tuple[Move, ...]:
        return tuple(_read_all(Move, self._root, self._moves))

    def keep(self, move: Move) -> None:
        """The move is on disk when this returns. Raises OSError."""
        write_json(self._moves / f"{move.target}.json", encode(move), durable=True)

    def forget(self, move: Move) -> None:
        (self._moves / f"{move.target}.json").unlink(missing_ok=True)

    def borrowed(self) -> tuple[Borrowed, ...]:
        return tuple(_read_all(Borrowed, self._root, self._borrowed))

    def borrow(self, borrowed: Borrowed) -> None:
        """Raises OSError."""
        write_json(self._borrowed / _file_name(borrowed.address), encode(borrowed))

    def give_back(self, address: str) -> None:
        """Remove its record: the address is back on its own interface."""
        (self._borrowed / _file_name(address)).unlink(missing_ok=True)


def _lock(file: TextIO, end: float) -> None:
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise TimeoutError from None
        time.sleep(0.05)


def _file_name(address: str) -> str:
    return f"{address.replace('/', '_')}.json"


def _read_all(kind: type[_T], root: Path, folder: Path) -> Iterator[_T]:
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError:
        return
    for name in names:
        # Files are written atomically: the move of an unreadable one has not started.
        with contextlib.suppress(OSError, ValueError, RecursionError):
            yield decode(kind, json.loads(read_regular(root, folder / name, _MOST)))
