# SPDX-License-Identifier: Apache-2.0
"""The loop's own work is spread out while a worker is at work."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator

import pytest

from vfagent.reconcile.throttle import ThrottledQueue, ThrottledReader

WORK_S = 0.01


class Source:
    """Events that come all the time, and whose reading takes a while."""

    def __init__(self, turns: ThrottledQueue) -> None:
        self.pipe, self.writing = os.pipe()
        os.set_blocking(self.pipe, False)
        self.broken = False
        self.read: list[int] = []
        self.reader = ThrottledReader(lambda: self.pipe, self._read, turns)

    def _read(self) -> None:
        time.sleep(WORK_S)
        self.read.append(len(os.read(-1 if self.broken else self.pipe, 1000)))

    async def stream(self, events: int) -> None:
        self.reader.start()
        for _ in range(events):
            os.write(self.writing, b".")
            await asyncio.sleep(0.002)

    async def until_read(self, events: int) -> None:
        async with asyncio.timeout(5):
            while sum(self.read) < events:
                await asyncio.sleep(0.005)


Sources = Callable[[ThrottledQueue], Source]


@pytest.fixture
def sources() -> Iterator[Sources]:
    made = list[Source]()

    def make(turns: ThrottledQueue) -> Source:
        made.append(Source(turns))
        return made[-1]

    yield make
    for source in made:
        os.close(source.pipe)
        os.close(source.writing)


@pytest.fixture
def source(sources: Sources) -> Source:
    return sources(ThrottledQueue(lambda: True))


def test_after_a_read_that_went_wrong_the_next_event_is_heard(sources: Sources) -> None:
    async def body() -> list[str]:
        logged = list[str]()
        asyncio.get_running_loop().set_exception_handler(lambda _, about: logged.append(str(about["exception"])))
        source = sources(ThrottledQueue(lambda: False))
        source.broken = True
        await source.stream(1)
        await asyncio.sleep(0.2)
        source.broken = False
        await source.until_read(1)
        source.reader.stop()
        return logged

    assert asyncio.run(body()) == ["[Errno 9] Bad file descriptor"]  # once: it is not tried again at once


def test_what_comes_while_a_worker_is_at_work_is_read_in_few_goes(source: Source) -> None:
    async def body() -> float:
        began = time.monotonic()
        await source.stream(200)
        await source.until_read(200)
        source.reader.stop()
        return time.monotonic() - began

    lasted = asyncio.run(body())
    assert sum(source.read) == 200
    assert len(source.read) * WORK_S <= 0.1 * lasted + WORK_S  # and not one go for each event


def test_however_many_want_to_read_a_worker_keeps_the_processor(sources: Sources) -> None:
    """One PF's events come by four ways, and the reports of eight PFs by eight more."""
    turns = ThrottledQueue(lambda: True)
    each = [sources(turns) for _ in range(6)]

    async def body() -> float:
        began = time.monotonic()
        await asyncio.gather(*(source.stream(200) for source in each))
        await asyncio.gather(*(source.until_read(200) for source in each))
        for source in each:
            source.reader.stop()
        return time.monotonic() - began

    lasted = asyncio.run(body())
    goes = [len(source.read) for source in each]
    assert sum(goes) * WORK_S <= 0.1 * lasted + 2 * len(each) * WORK_S
    assert max(goes) - min(goes) <= 1  # each has its turn


def test_one_that_goes_wrong_keeps_no_other_from_its_turn(sources: Sources) -> None:
    async def body() -> None:
        turns = ThrottledQueue(lambda: True)
        broken, sound = sources(turns), sources(turns)
        # It is not heard of again, so that its next event is not what gives the other its turn.
        asyncio.get_running_loop().set_exception_handler(lambda *_: broken.reader.stop())
        broken.broken = True
        await asyncio.gather(broken.stream(1), sound.stream(1))
        await sound.until_read(1)
        sound.reader.stop()

    asyncio.run(body())


def test_without_a_worker_events_are_read_as_they_come(sources: Sources) -> None:
    source = sources(ThrottledQueue(lambda: False))

    async def body() -> None:
        for number in range(1, 11):
            await source.stream(1)
            await source.until_read(number)
        source.reader.stop()

    asyncio.run(body())
    assert len(source.read) == 10


def test_a_reader_that_was_stopped_while_it_rested_reads_no_more(source: Source) -> None:
    async def body() -> None:
        await source.stream(1)
        await source.until_read(1)
        os.write(source.writing, b".")
        await asyncio.sleep(0.02)  # it waits for its turn
        source.reader.stop()
        await asyncio.sleep(0.3)

    asyncio.run(body())
    assert source.read == [1]
