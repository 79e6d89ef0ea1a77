# SPDX-License-Identifier: Apache-2.0
"""The loop's own work is spread out while a worker is at work."""

import asyncio
import os
import time
from collections.abc import Iterator

import pytest

from vfagent.pace import PacedReader

WORK_S = 0.01


class Source:
    """Events that come all the time, and whose reading takes a while."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)
        self.busy = True
        self.read: list[int] = []
        self.reader = PacedReader(lambda: self.reading, self._read, lambda: self.busy)

    def _read(self) -> None:
        time.sleep(WORK_S)
        self.read.append(len(os.read(self.reading, 1000)))

    async def stream(self, events: int) -> None:
        self.reader.start()
        for _ in range(events):
            os.write(self.writing, b".")
            await asyncio.sleep(0.002)

    async def until_read(self, events: int) -> None:
        async with asyncio.timeout(5):
            while sum(self.read) < events:
                await asyncio.sleep(0.005)


@pytest.fixture
def source() -> Iterator[Source]:
    source = Source()
    yield source
    os.close(source.reading)
    os.close(source.writing)


def test_after_a_read_that_went_wrong_the_next_event_is_heard(source: Source) -> None:
    async def body() -> list[str]:
        told = list[str]()
        asyncio.get_running_loop().set_exception_handler(lambda _, about: told.append(str(about["exception"])))
        reading, source.reading = source.reading, -1  # os.read fails
        source.reader = PacedReader(lambda: reading, source._read, lambda: False)
        await source.stream(1)
        await asyncio.sleep(0.2)
        source.reading = reading
        await source.until_read(1)
        source.reader.stop()
        return told

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


def test_without_a_worker_events_are_read_as_they_come(source: Source) -> None:
    async def body() -> None:
        source.busy = False
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
        source.reader.stop()
        await asyncio.sleep(0.3)

    asyncio.run(body())
    assert source.read == [1]
