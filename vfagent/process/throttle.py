# SPDX-License-Identifier: Apache-2.0
"""Limits the event loop's own work while a worker runs: its kernel calls and the service share the processors."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_REST = 9.0  # times as long as the work took: the loop gets a tenth of the time
_LONGEST_REST_S = 1.0  # a kernel buffer must hold what arrives meanwhile


class Throttle:
    """How long to rest after the last piece of work."""

    def __init__(self, longest_s: float = math.inf) -> None:
        self._longest_s, self._until = longest_s, 0.0

    def rest_s(self) -> float:
        return max(0.0, self._until - time.monotonic())

    @contextmanager
    def work(self) -> Iterator[None]:
        """What is worked before the rest is over adds to it."""
        began = time.monotonic()
        try:
            yield
        finally:
            now = time.monotonic()
            self._until = min(max(self._until, now) + _REST * (now - began), now + self._longest_s)


class Turns:
    """Readers of events and reports take turns while `busy` holds: all read what has arrived, then all rest.

    With a tenth of the time for each reader, one PF's convergence would compete with half a processor's work, and that
    of eight PFs with more.
    """

    def __init__(self, busy: Callable[[], bool], longest_rest_s: float = _LONGEST_REST_S) -> None:
        self._busy = busy
        self._throttle = Throttle(longest_rest_s)
        self._next: asyncio.Future[None] | None = None

    async def turn(self, *unless: asyncio.Future[Any]) -> None:
        """The end of the rest, if there is one. It is not waited for once any of the others is done."""
        if self._next is None:
            if not self._busy() or not (rest_s := self._throttle.rest_s()):
                return
            loop = asyncio.get_running_loop()
            self._next = loop.create_future()
            loop.call_later(rest_s, self._begin, self._next)
        await asyncio.wait({self._next, *unless}, return_when=asyncio.FIRST_COMPLETED)

    def _begin(self, turn: asyncio.Future[None]) -> None:
        self._next = None
        turn.set_result(None)

    @contextmanager
    def work(self) -> Iterator[None]:
        """In a turn. Nothing in it waits."""
        with self._throttle.work():
            yield


async def read_in_turn(fileno: Callable[[], int], read: Callable[[], None], turns: Turns) -> None:
    """Call `read` when the descriptor is readable and its turn has come.

    What arrives meanwhile stays in the kernel's buffer, and is read at once.
    """
    while True:
        await _readable(fileno())
        await turns.turn()
        try:
            with turns.work():
                read()
        except Exception as error:  # go on reading after any failure; not at once, as it may fail again
            loop = asyncio.get_running_loop()
            loop.call_exception_handler({"message": "cannot read events", "exception": error})
            await asyncio.sleep(_LONGEST_REST_S)


async def _readable(fd: int) -> None:
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, arrived.set)
    try:
        await arrived.wait()
    finally:
        loop.remove_reader(fd)
