# SPDX-License-Identifier: Apache-2.0
"""The loop's own work, spread out while a worker is at work: its kernel calls and the agent share the processors."""

import asyncio
import math
import time
from collections.abc import Callable

_REST = 9.0  # times as long as the work took: a tenth of the time is the loop's
_LONGEST_REST_S = 1.0  # a kernel buffer must hold what comes meanwhile


class Pace:
    """How long to rest after the work that was last done."""

    def __init__(self, longest_s: float = math.inf) -> None:
        self._longest_s, self._until = longest_s, 0.0

    def rest_s(self) -> float:
        return max(0.0, self._until - time.monotonic())

    def run(self, work: Callable[[], None]) -> None:
        began = time.monotonic()
        work()
        now = time.monotonic()
        self._until = now + min(self._longest_s, _REST * (now - began))


class PacedReader:
    """Calls `read` when the descriptor has something, but rests after each time as long as `busy` holds.

    What comes meanwhile stays in the kernel's buffer, and is read in one go.
    """

    def __init__(self, fileno: Callable[[], int], read: Callable[[], None], busy: Callable[[], bool]) -> None:
        self._fileno, self._read, self._busy = fileno, read, busy
        self._pace = Pace(_LONGEST_REST_S)
        self._fd = -1
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._fd = self._fileno()
        asyncio.get_running_loop().add_reader(self._fd, self._ready)

    def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _ready(self) -> None:
        self.stop()
        try:
            self._pace.run(self._read)
        except BaseException:  # whatever went wrong, the next event is heard; not at once, as it may go wrong again
            self._start_after(_LONGEST_REST_S)
            raise
        if self._busy():
            self._start_after(self._pace.rest_s())
        else:
            self.start()

    def _start_after(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self.start)
