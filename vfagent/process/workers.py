# SPDX-License-Identifier: Apache-2.0
"""What may hang in the kernel, in systemd or in QEMU runs in a worker with a deadline: the event loop's side of it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any, TypeVar

from vfagent.errors import VfagentError
from vfagent.process import worker
from vfagent.process.places import QUIET_S, Place, Places
from vfagent.process.throttle import Turns
from vfagent.process.worker import NoAnswerError, NoWorkerError, Send, Worker

T = TypeVar("T")

_LAST_S = 0.5  # for a killed worker to exit when its caller ends
DYING_S = 2.0  # after SIGKILL; then the worker hangs in the kernel, and is reaped when it has exited


class StuckError(NoAnswerError):
    """SIGKILL does not end the worker. `ended` is done when it has exited."""

    def __init__(self, silence_s: float, ended: asyncio.Future[int]) -> None:
        super().__init__(f"no answer within {silence_s:g} s", timed_out=True)
        self.ended = ended


class Workers:
    """Starts the workers of this process. `private`: the descriptors that none of them may keep; `most`: streams;
    `dying_s`: how long one may take to exit once it was killed."""

    def __init__(
        self, private: Callable[[], Iterable[int]] = tuple, *, most: int = worker.MOST, dying_s: float = DYING_S
    ) -> None:
        self._private, self._dying_s = private, dying_s
        self._streams = 0
        self.turns = Turns(lambda: self.streaming)
        self.places = Places(most)
        self._last: dict[str, asyncio.Future[int]] = {}  # the end of the last call of each kind

    def private(self) -> tuple[int, ...]:
        return tuple(self._private())

    def start(self, body: Callable[[Send], None]) -> Worker:
        """For `stream`. Raises OSError."""
        return worker.start(body, close=self.private())

    async def call(self, function: Callable[[], T], *, deadline_s: float, kind: str = "") -> T:
        """What the function returns in a worker that is forked now, with the state of now.

        Its VfagentError is raised here, an OSError as one; so are NoWorkerError and NoAnswerError. `kind`: of these
        calls, one is made at a time, so that those that hang in the kernel hold one worker.
        """
        if kind and (last := self._last.get(kind)):
            await asyncio.wait({last}, timeout=self._dying_s)
        if self.hangs(kind):
            raise NoWorkerError("an earlier worker for it still hangs in the kernel")
        try:
            run = _Run(self.start(partial(_answer, function)), self._dying_s)
        except OSError as error:
            raise NoWorkerError(f"cannot start a worker: {error.strerror}") from error
        if kind:
            self._last[kind] = run.ended
        answers = list[Any]()
        try:
            async for answer in run.reports(lambda: deadline_s):
                answers.append(answer)
        except NoAnswerError:
            if not answers:
                raise
        except asyncio.CancelledError:
            run.kill()
            await asyncio.wait({run.ended}, timeout=_LAST_S)
            raise
        return _result(answers)  # type: ignore[no-any-return]

    def hangs(self, kind: str) -> bool:
        """Whether a call of this kind is being made, or hangs in the kernel beyond its deadline."""
        return kind in self._last and not self._last[kind].done()

    @property
    def streaming(self) -> bool:
        """Whether there is a worker with a stream."""
        return self._streams > 0

    async def stream(self, child: Worker, silence_s: Callable[[], float]) -> AsyncGenerator[Any, None]:
        """The worker's reports in turns, until it has ended. One that is silent for longer is killed. The caller has
        taken a place for it, which ends with it.

        Raises NoAnswerError unless the worker has ended well. A worker whose stream is left goes on until it reports.
        """
        self._streams += 1
        try:
            async for report in _Run(child, self._dying_s).reports(silence_s, self):
                yield report
        finally:
            self._streams -= 1


def end(child: Worker) -> None:
    """Kill the worker, and reap it when it has exited. This does not wait: it may hang in the kernel."""
    _Run(child).kill()


class _Run:
    """A worker until its end. The loop reaps it, whoever still waits for it."""

    def __init__(self, child: Worker, dying_s: float = DYING_S) -> None:
        self._child, self._dying_s, self._loop = child, dying_s, asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._rest: tuple[Any, ...] = ()
        self.ended: asyncio.Future[int] = self._loop.create_future()  # its exit status
        self._loop.add_reader(child.pidfd, self._exited)
        self._loop.add_reader(child.reports, self._readable)

    def _readable(self) -> None:
        self._loop.remove_reader(self._child.reports)
        self._news.set()

    def _exited(self) -> None:
        self._loop.remove_reader(self._child.pidfd)
        self._loop.remove_reader(self._child.reports)
        self._rest = tuple(self._child.read())
        self.ended.set_result(self._child.close())
        self._news.set()

    def kill(self) -> None:
        if not self.ended.done():
            self._child.kill()

    async def reports(
        self, silence_s: Callable[[], float], shared: "Workers | None" = None
    ) -> AsyncGenerator[Any, None]:
        """`shared`: in turns, and with a place that was taken for the worker."""
        place = Place(shared.places) if shared else None
        silent_s = 0.0
        try:
            while not self.ended.done():
                silent_s = await self._silence(silence_s(), place)
                if shared:
                    await shared.turns.turn(self.ended)
                with shared.turns.work() if shared else nullcontext():
                    for report in self._take():
                        yield report
        finally:
            if place:
                place.silent()
        if silent_s:
            raise NoAnswerError(f"no answer within {silent_s:g} s", timed_out=True)
        if status := self.ended.result():
            raise NoAnswerError(f"worker exited with status {status}")

    async def _silence(self, limit_s: float, place: Place | None) -> float:
        """Wait for a report, or for the worker's end. Returns the limit where it had to be killed, else 0."""
        quiet_s = min(QUIET_S, limit_s)
        if not await self._news_within(quiet_s):
            if place:
                place.silent()
            if not await self._news_within(limit_s - quiet_s):
                await self._killed(limit_s)
                return limit_s
        if place:
            place.heard()
        return 0.0

    async def _news_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return False
        return True

    def _take(self) -> Iterator[Any]:
        self._news.clear()
        if self.ended.done():
            yield from self._rest
        else:
            yield from self._child.read()
            if not self._child.at_end:  # else it stays readable, until the kernel has ended the process
                self._loop.add_reader(self._child.reports, self._readable)

    async def _killed(self, silent_s: float) -> None:
        self.kill()
        await asyncio.wait({self.ended}, timeout=self._dying_s)
        if not self.ended.done():
            self._loop.remove_reader(self._child.reports)
            raise StuckError(silent_s, self.ended)


def _answer(function: Callable[[], Any], send: Send) -> None:
    try:
        send((function(), None))
    except VfagentError as error:
        send((None, error))
    except OSError as error:
        send((None, VfagentError(error.strerror or str(error))))


def _result(answers: list[Any]) -> Any:
    if not answers:
        raise NoAnswerError("the worker ended without an answer")
    value, error = answers[0]
    if error is not None:
        raise error
    return value
