# SPDX-License-Identifier: Apache-2.0
"""The event loop does its own work in few, spread reads while a worker runs."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator

import pytest

from tests.host.waiting import until
from vfagent.process.throttle import Turns, read_in_turn

WORK_S = 0.01


class Source:
    """Events that come all the time, each read of which takes 10 ms."""

    def __init__(self, turns: Turns) -> None:
        self.pipe, self.writing = os.pipe()
        os.set_blocking(self.pipe, False)
        self.broken = False
        self.read: list[int] = []
        self._turns = turns
        self._reader: asyncio.Task[None] | None = None

    def _read(self) -> None:
        time.sleep(WORK_S)
        self.read.append(len(os.read(-1 if self.broken else self.pipe, 1000)))

    async def stream(self, events: int) -> None:
        self._reader = self._reader or asyncio.create_task(read_in_turn(lambda: self.pipe, self._read, self._turns))
        for _ in range(events):
            os.write(self.writing, b".")
            await asyncio.sleep(0.002)

    def stop(self) -> None:
        if self._reader:
            self._reader.cancel()

    async def until_read(self, events: int) -> None:
        await until(lambda: sum(self.read) >= events)


Sources = Callable[[Turns], Source]


@pytest.fixture
def sources() -> Iterator[Sources]:
    made = list[Source]()

    def make(turns: Turns) -> Source:
        made.append(Source(turns))
        return made[-1]

    yield make
    for source in made:
        os.close(source.pipe)
        os.close(source.writing)


@pytest.fixture
def source(sources: Sources) -> Source:
    return sources(Turns(lambda: True))


def test_after_a_failed_read_the_next_event_is_read(sources: Sources) -> None:
    async def body() -> list[str]:
        logged = list[str]()
        asyncio.get_running_loop().set_exception_handler(lambda _, about: logged.append(str(about["exception"])))
        source = sources(Turns(lambda: False))
        source.broken = True
        await source.stream(1)
        await asyncio.sleep(0.2)
        source.broken = False
        await source.until_read(1)
        source.stop()
        return logged

    assert asyncio.run(body()) == ["[Errno 9] Bad file descriptor"]  # once: without a new event it is not read again


def test_events_are_read_in_few_reads_while_a_worker_runs(source: Source) -> None:
    async def body() -> float:
        began = time.monotonic()
        await source.stream(200)
        await source.until_read(200)
        source.stop()
        return time.monotonic() - began

    lasted = asyncio.run(body())
    assert sum(source.read) == 200
    assert len(source.read) * WORK_S <= 0.1 * lasted + WORK_S  # not one read for each event


def test_many_readers_leave_the_cpu_to_a_worker(sources: Sources) -> None:
    """A PF's events come from four monitors, and the reports of eight PFs from eight workers."""
    turns = Turns(lambda: True)
    each = [sources(turns) for _ in range(6)]

    async def body() -> float:
        began = time.monotonic()
        await asyncio.gather(*(source.stream(200) for source in each))
        await asyncio.gather(*(source.until_read(200) for source in each))
        for source in each:
            source.stop()
        return time.monotonic() - began

    lasted = asyncio.run(body())
    reads = [len(source.read) for source in each]
    assert sum(reads) * WORK_S <= 0.1 * lasted + 2 * len(each) * WORK_S
    assert max(reads) - min(reads) <= 1  # in turn


def test_a_failing_reader_does_not_block_the_others(sources: Sources) -> None:
    async def body() -> None:
        turns = Turns(lambda: True)
        broken, working = sources(turns), sources(turns)
        # Its next event must not be what starts the other reader.
        asyncio.get_running_loop().set_exception_handler(lambda *_: broken.stop())
        broken.broken = True
        await asyncio.gather(broken.stream(1), working.stream(1))
        await working.until_read(1)
        working.stop()

    asyncio.run(body())


def test_without_a_worker_events_are_read_at_once(sources: Sources) -> None:
    source = sources(Turns(lambda: False))

    async def body() -> None:
        for number in range(1, 11):
            await source.stream(1)
            await source.until_read(number)
        source.stop()

    asyncio.run(body())
    assert len(source.read) == 10


def test_a_reader_stopped_while_throttled_reads_no_more(source: Source) -> None:
    async def body() -> None:
        await source.stream(1)
        await source.until_read(1)
        os.write(source.writing, b".")
        await asyncio.sleep(0.02)  # it is throttled
        source.stop()
        await asyncio.sleep(0.3)

    asyncio.run(body())
    assert source.read == [1]
