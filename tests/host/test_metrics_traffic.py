# SPDX-License-Identifier: Apache-2.0
"""VF traffic counters: read for the next scrape, by a worker that may hang."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.host.leaks import run_to_end
from tests.host.namespace import add_veth
from vfagent.kernel.vf_counters import VfCounters, read_counters
from vfagent.metrics import traffic_reader
from vfagent.metrics.traffic_reader import TrafficReader
from vfagent.metrics.vf_traffic import written

PF, OTHER = "0000:01:00.0", "0000:02:00.0"
NONE = VfCounters(*[0] * 8)


async def within(seconds: float, condition: Callable[[], object]) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


class Reads:
    """What a card counts, in a file, since a worker reads it; and how often it was read."""

    def __init__(self, folder: Path) -> None:
        self.packets, self.log = folder / "packets", folder / "log"
        self.count(0)
        self.log.touch()

    def count(self, packets: int) -> None:
        self.packets.write_text(str(packets))

    def __call__(self, ifindex: int) -> dict[int, VfCounters]:
        with open(self.log, "a") as log:
            log.write(f"{ifindex}\n")
        if ifindex == 9:
            time.sleep(30)
        packets = int(self.packets.read_text()) if ifindex == 1 else 0
        return {0: VfCounters(packets, *[0] * 7), 1: NONE}

    @property
    def made(self) -> list[str]:
        return self.log.read_text().split()


@pytest.fixture
def reads(tmp_path: Path) -> Reads:
    return Reads(tmp_path)


@pytest.fixture
def changes() -> list[float]:
    return []


def reader(reads: Reads, changes: list[float], netdevs: dict[str, int]) -> TrafficReader:
    return TrafficReader(lambda: netdevs, lambda: changes.append(time.monotonic()), tuple, reads)


def test_counters_are_read_for_the_next_scrape(reads: Reads, changes: list[float]) -> None:
    async def run() -> None:
        found = reader(reads, changes, {PF: 1, OTHER: 2})
        reads.count(5)
        found.scraped()
        assert found.found == {}
        await within(5, lambda: changes)
        assert found.found == {PF: written(PF, {0: VfCounters(5, *[0] * 7), 1: NONE})}
        await found.stop()

    run_to_end(run())


def test_counters_are_read_and_decoded_by_another_process() -> None:
    def who(_: int) -> dict[int, VfCounters]:
        return {0: VfCounters(rx_packets=os.getpid())}

    async def run() -> None:
        found = TrafficReader(lambda: {PF: 1}, lambda: None, tuple, who)
        found.scraped()
        await within(5, lambda: found.found)
        assert f" {os.getpid()}.0\n" not in found.found[PF].lines["vfagent_vf_receive_packets_total"]
        await found.stop()

    run_to_end(run())


def test_zeros_are_not_shown_until_the_driver_has_counted_something(
    reads: Reads, changes: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic_reader, "_PAUSE_S", 0.0)
    monkeypatch.setattr(traffic_reader, "_SILENT_PAUSE_S", 0.0)

    async def run() -> None:
        found = reader(reads, changes, {PF: 1})
        for packets, shown in ((0, False), (1, True), (0, True)):
            reads.count(packets)
            found.scraped()
            await within(5, lambda: not found._busy)
            assert bool(found.found) == shown
        await found.stop()

    run_to_end(run())


def test_cards_that_count_nothing_are_hardly_ever_asked(reads: Reads, changes: list[float]) -> None:
    async def run() -> None:
        found = reader(reads, changes, {PF: 1})
        for _ in range(50):
            found.scraped()
            await asyncio.sleep(0.01)
        assert len(reads.made) == 1
        assert not changes
        await found.stop()

    run_to_end(run())


def test_a_worker_that_hangs_is_not_joined_by_others(
    reads: Reads, changes: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic_reader, "_DEADLINE_S", 0.3)
    monkeypatch.setattr(traffic_reader, "_SILENT_PAUSE_S", 0.0)

    async def run() -> None:
        found = reader(reads, changes, {PF: 9})
        began = time.monotonic()
        found.scraped()
        assert time.monotonic() - began < 0.2
        while time.monotonic() - began < 1.0:
            found.scraped()
            await asyncio.sleep(0.01)
        assert 1 <= len(reads.made) <= 4
        await found.stop()
        await asyncio.sleep(0.3)  # for the end of the last one, which was killed, to be collected

    run_to_end(run())


def test_what_was_read_long_ago_and_pfs_that_are_gone_are_not_shown(
    reads: Reads, changes: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        netdevs = {PF: 1}
        found = reader(reads, changes, netdevs)
        reads.count(5)
        found.scraped()
        await within(5, lambda: found.found)
        monkeypatch.setattr(traffic_reader, "_OUTDATED_S", 0.0)
        found.scraped()
        assert found.found == {}
        await within(5, lambda: found.found)
        netdevs.clear()
        found.scraped()
        assert found.found == {}
        await found.stop()

    run_to_end(run())


@pytest.mark.usefixtures("kernel")
def test_the_kernel_is_asked_in_words_that_it_understands() -> None:
    assert read_counters(add_veth("one", "two")) == {}
    with pytest.raises(OSError, match="No such device"):
        read_counters(4711)
