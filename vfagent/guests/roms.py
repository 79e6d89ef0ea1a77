# SPDX-License-Identifier: Apache-2.0
"""The ROMs that guests wait for: built one after another, in the background."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vfagent.guests.rom_build import provide
from vfagent.guests.rom_cache import RomStore
from vfagent.guests.spec.rom import BUILD_S, RomWish
from vfagent.guests.worker_calls import Outcome, WorkerCalls

log = logging.getLogger(__name__)

_PROGRESS_S = 3.0
_AGAIN_S, _LONGEST_S = 300.0, 3600.0
_NOT_BEGUN_S = 2.0  # where no process was available, or the bus did not answer yet
_MARGIN_S = 120.0


@dataclass(slots=True)
class _Trouble:
    """Why a ROM could not be built, and when it is tried again, by the monotonic clock."""

    text: str
    not_before: float
    times: int


class Roms:
    """`on_change` is called when a ROM is ready or cannot be built, and while it is being built."""

    def __init__(self, root: Path, worker_calls: WorkerCalls, bus: str, on_change: Callable[[float], None]) -> None:
        self._root, self._worker_calls, self._bus, self._on_change = root, worker_calls, bus, on_change
        self._ready: dict[RomWish, str] = {}
        self._trouble: dict[RomWish, _Trouble] = {}
        self._working: RomWish | None = None

    def take(self, wish: RomWish, source: str | None) -> str | None:
        """The ROM's file, which is looked up anew for each start; None while there is none."""
        if path := self._ready.pop(wish, None):
            return path
        trouble = self._trouble.get(wish)
        if self._working is None and not (trouble and time.monotonic() < trouble.not_before):
            self._working = wish
            self._worker_calls.run(
                lambda: self._provide(wish, source), lambda outcome: self._done(wish, outcome), BUILD_S + _MARGIN_S
            )
            asyncio.get_running_loop().call_later(_PROGRESS_S, self._report_progress, wish)
        return None

    def waits(self, wish: RomWish) -> str:
        """What a guest without its ROM waits for."""
        if self._working == wish:
            return f"its ROM {wish.target} is being built: {RomStore(self._root).progress()}"
        if trouble := self._trouble.get(wish):
            return trouble.text
        return f"its ROM {wish.target} is built after others"

    def forget(self) -> None:
        """Try again what could not be built."""
        self._trouble.clear()

    def _provide(self, wish: RomWish, source: str | None) -> Outcome:
        return Outcome(rom=str(provide(self._bus, wish, source, self._root)))

    def _done(self, wish: RomWish, outcome: Outcome) -> None:
        self._working = None
        if outcome.rom:
            self._ready[wish] = outcome.rom
            self._trouble.pop(wish, None)
        else:
            self._fail(wish, outcome)
        self._on_change(0.0)

    def _fail(self, wish: RomWish, outcome: Outcome) -> None:
        before = self._trouble.get(wish)
        times = (before.times if before else -1) + outcome.begun
        wait_s = min(_AGAIN_S * 2.0**times, _LONGEST_S) if outcome.begun else _NOT_BEGUN_S
        self._trouble[wish] = _Trouble(outcome.message(), time.monotonic() + wait_s, times)
        if before is None or before.text != outcome.message():
            log.error("ROM %s: %s", wish.target, outcome.message())
        asyncio.get_running_loop().call_later(wait_s, self._on_change, 0.0)

    def _report_progress(self, wish: RomWish) -> None:
        if self._working == wish:
            self._on_change(0.0)
            asyncio.get_running_loop().call_later(_PROGRESS_S, self._report_progress, wish)
