# SPDX-License-Identifier: Apache-2.0
"""How many workers run at once, which is the memory of a host with many cards.

One that has been silent for a second waits in the kernel, for it or for its turn, and takes no place until its next
report: nobody waits for what hangs.
"""

import asyncio
from collections import deque

QUIET_S = 1.0


class Places:
    def __init__(self, most: int) -> None:
        self._free = most
        self._waiting = deque[asyncio.Future[None]]()

    async def take(self) -> None:
        if self._free > 0:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give()
            raise

    def take_now(self) -> None:
        """For a worker that runs already."""
        self._free -= 1

    def give(self) -> None:
        self._free += 1
        while self._free > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                self._free -= 1
                turn.set_result(None)


class Place:
    """A place that was taken for one worker."""

    def __init__(self, places: Places) -> None:
        self._places, self._counts = places, True

    def heard(self) -> None:
        if not self._counts:
            self._counts = True
            self._places.take_now()

    def silent(self) -> None:
        """Or ended."""
        if self._counts:
            self._counts = False
            self._places.give()
