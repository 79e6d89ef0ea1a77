# SPDX-License-Identifier: Apache-2.0
"""Calls of a function in a child process, with a deadline."""

import asyncio
import gc
from collections.abc import Callable
from typing import Any, TypeVar

from vfagent.process import worker

T = TypeVar("T")


class UnansweredError(Exception):
    """The child ended without an answer, or not within the deadline. `ended`: done when it has ended."""

    def __init__(self, ended: asyncio.Future[None]) -> None:
        super().__init__("no answer from the worker")
        self.ended = ended


async def worker_call(body: Callable[[], T], *, close: tuple[int, ...] = (), deadline_s: float) -> T:
    """The result of `body` in a child that is forked now, with the state of now. Raises OSError."""

    def answer(send: worker.Send) -> None:
        gc.disable()  # a collection would write to pages that are shared with the parent
        send(body())

    return await _Call(worker.start(answer, close=close)).answer(deadline_s)  # type: ignore[no-any-return]


class _Call:
    def __init__(self, child: worker.Worker) -> None:
        self._child = child
        self._answers: list[Any] = []
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(child.reports, self._read)
        self._loop.add_reader(child.pidfd, self._ended)

    async def answer(self, deadline_s: float) -> Any:
        try:
            await asyncio.wait({self._done}, timeout=deadline_s)
        finally:
            if not self._done.done():
                self._child.kill()
                await asyncio.wait({self._done}, timeout=1.0)  # one that hangs in the kernel is reaped later
        if not self._answers:
            raise UnansweredError(self._done)
        return self._answers[0]

    def _read(self) -> None:
        self._answers += self._child.read()

    def _ended(self) -> None:
        self._loop.remove_reader(self._child.pidfd)
        self._read()
        self._loop.remove_reader(self._child.reports)
        self._child.close()
        self._done.set_result(None)
