# SPDX-License-Identifier: Apache-2.0
"""Events are read as they arrive, also after a read that has failed."""

import asyncio
import os
from collections.abc import Iterator

import pytest

from tests.host.leaks import run_to_end
from tests.host.waiting import until
from vfagent.service.kernel_events import read_events


class Source:
    def __init__(self) -> None:
        self.pipe, self.writing = os.pipe()
        os.set_blocking(self.pipe, False)
        self.broken = False
        self.failed, self.events = 0, 0

    def read(self) -> None:
        if self.broken:
            self.failed += 1
            raise OSError("a bug")
        self.events += len(os.read(self.pipe, 1000))

    def happen(self) -> None:
        os.write(self.writing, b".")


@pytest.fixture
def source() -> Iterator[Source]:
    source = Source()
    yield source
    os.close(source.pipe)
    os.close(source.writing)


def test_each_event_is_read(source: Source) -> None:
    async def scenario() -> None:
        reader = asyncio.create_task(read_events(lambda: source.pipe, source.read))
        for _ in range(10):
            source.events = 0
            source.happen()
            await until(lambda: source.events == 1)
        reader.cancel()
        await asyncio.wait({reader})

    run_to_end(scenario())


def test_after_a_failed_read_events_are_read_again_and_not_in_a_busy_loop(source: Source) -> None:
    async def scenario() -> list[str]:
        logged = list[str]()
        asyncio.get_running_loop().set_exception_handler(lambda _, about: logged.append(str(about["exception"])))
        reader = asyncio.create_task(read_events(lambda: source.pipe, source.read))
        source.broken = True
        source.happen()
        await until(lambda: source.failed)
        await asyncio.sleep(0.1)
        source.broken = False
        await until(lambda: source.events == 1)
        reader.cancel()
        await asyncio.wait({reader})
        return logged

    assert run_to_end(scenario()) == ["a bug"]
