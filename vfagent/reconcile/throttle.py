# SPDX-License-Identifier: Apache-2.0
"""Limits the event loop's own work while a worker runs: its kernel calls and the service share the processors."""

import asyncio
import math
import time
from collections.abc import Callable

_REST = 9.0  # times as long as the work took: the loop gets a tenth of the time
_LONGEST_REST_S = 1.0  # a kernel buffer must hold what arrives meanwhile

_Work = Callable[[], None]


class Throttle:
    """How long to rest after the last piece of work."""

    def __init__(self, longest_s: float = math.inf) -> None:
        self._longest_s, self._until = longest_s, 0.0

    def rest_s(self) -> float:
        return max(0.0, self._until - time.monotonic())

    def run(self, work: _Work) -> None:
        began = time.monotonic()
        try:
            work()
        finally:
            now = time.monotonic()
            self._until = now + min(self._longest_s, _REST * (now - began))


class ThrottledQueue:
    """Readers of events and reports take turns while `busy` holds: all read what has arrived, then all rest.

    With a tenth of the time for each reader, one PF's convergence would compete with half a processor's work, and that
    of eight PFs with more.
    """

    def __init__(self, busy: Callable[[], bool]) -> None:
        self._busy = busy
        self._throttle = Throttle(_LONGEST_REST_S)
        self._waiting: dict[_Work, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def take(self, work: _Work) -> None:
        """Run `work` after the rest, if there is one; once, however often it was asked for until then."""
        self._waiting[work] = None
        self._arm()

    def forget(self, work: _Work) -> None:
        self._waiting.pop(work, None)

    def _arm(self) -> None:
        if self._timer is None:
            rest = self._throttle.rest_s() if self._busy() else 0.0
            self._timer = asyncio.get_running_loop().call_later(rest, self._run)

    def _run(self) -> None:
        self._timer = None
        try:
            self._throttle.run(self._run_all)
        finally:
            if self._waiting:  # one failed; the others still run
                self._arm()

    def _run_all(self) -> None:
        while self._waiting:
            work = next(iter(self._waiting))
            del self._waiting[work]
            work()


class ThrottledReader:
    """Calls `read` when the descriptor is readable and its turn in the queue has come.

    What arrives meanwhile stays in the kernel's buffer, and is read at once.
    """

    def __init__(self, fileno: Callable[[], int], read: _Work, turns: ThrottledQueue) -> None:
        self._fileno, self._read, self._turns = fileno, read, turns
        self._fd = -1
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._timer = None
        self._fd = self._fileno()
        asyncio.get_running_loop().add_reader(self._fd, self._ready)

    def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        self._turns.forget(self._read_once)
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _ready(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        self._turns.take(self._read_once)

    def _read_once(self) -> None:
        try:
            self._read()
        except BaseException:  # go on reading after any failure; not at once, as it may fail again
            self._timer = asyncio.get_running_loop().call_later(_LONGEST_REST_S, self.start)
            raise
        self.start()
