# SPDX-License-Identifier: Apache-2.0
"""VF traffic counters: read for the next scrape, by a worker that may hang."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from tests.host.leaks import run_to_end
from tests.host.namespace import add_veth
from tests.host.waiting import until
from vfagent.kernel.vf_counters import VfCounters, read_counters
from vfagent.metrics.traffic_reader import INTERVALS, Intervals, TrafficReader
from vfagent.process.workers import Workers

PF, OTHER = "0000:01:00.0", "0000:02:00.0"
NONE = VfCounters(*[0] * 8)


class Reads:
    """The counters of a card, in a file because a worker reads them, and a log of the reads."""

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
    def reads(self) -> list[str]:
        return self.log.read_text().split()


@pytest.fixture
def reads(tmp_path: Path) -> Reads:
    return Reads(tmp_path)


def reader(reads: Reads, netdevs: dict[str, int], intervals: Intervals = INTERVALS) -> TrafficReader:
    return TrafficReader(lambda: netdevs, Workers(), reads, intervals)


def test_counters_are_read_for_the_next_scrape(reads: Reads) -> None:
    async def run() -> None:
        traffic = reader(reads, {PF: 1, OTHER: 2})
        reads.count(5)
        traffic.scraped()
        assert traffic.by_pf == {}
        await until(lambda: traffic.by_pf)
        assert traffic.by_pf == {PF: {0: VfCounters(5, *[0] * 7), 1: NONE}}
        await traffic.stop()

    run_to_end(run())


def test_counters_are_read_and_decoded_by_another_process() -> None:
    def who(_: int) -> dict[int, VfCounters]:
        return {0: VfCounters(rx_packets=os.getpid())}

    async def run() -> None:
        traffic = TrafficReader(lambda: {PF: 1}, Workers(), who)
        traffic.scraped()
        await until(lambda: traffic.by_pf)
        assert traffic.by_pf[PF][0].rx_packets not in (None, os.getpid())
        await traffic.stop()

    run_to_end(run())


def test_zeros_are_not_shown_until_the_driver_has_counted_something(reads: Reads) -> None:
    async def run() -> None:
        traffic = reader(reads, {PF: 1}, Intervals(pause=0.0, silent_pause=0.0))
        for packets, shown in ((0, False), (1, True), (0, True)):
            reads.count(packets)
            traffic.scraped()
            await until(lambda: traffic._reading and traffic._reading.done())
            assert bool(traffic.by_pf) == shown
        await traffic.stop()

    run_to_end(run())


def test_a_card_that_counts_nothing_is_rarely_read(reads: Reads) -> None:
    async def run() -> None:
        traffic = reader(reads, {PF: 1})
        for _ in range(50):
            traffic.scraped()
            await asyncio.sleep(0.01)
        assert len(reads.reads) == 1
        assert not traffic.by_pf
        await traffic.stop()

    run_to_end(run())


def test_no_second_worker_is_started_while_one_hangs(reads: Reads) -> None:
    async def run() -> None:
        traffic = reader(reads, {PF: 9}, Intervals(silent_pause=0.0, deadline=2.0))
        traffic.scraped()
        await until(lambda: reads.reads)
        for _ in range(20):
            traffic.scraped()
            await asyncio.sleep(0.01)
        assert len(reads.reads) == 1
        await traffic.stop()
        await asyncio.sleep(0.3)  # until the worker, which was killed, has been reaped

    run_to_end(run())


def test_old_counters_and_those_of_removed_pfs_are_omitted(reads: Reads) -> None:
    async def run() -> None:
        netdevs = {PF: 1}
        traffic = reader(reads, netdevs, Intervals(outdated=0.0))
        reads.count(5)
        traffic.scraped()
        await until(lambda: traffic.by_pf)
        traffic.scraped()
        assert traffic.by_pf == {}
        await until(lambda: traffic.by_pf)
        netdevs.clear()
        traffic.scraped()
        assert traffic.by_pf == {}
        await traffic.stop()

    run_to_end(run())


@pytest.mark.usefixtures("kernel")
def test_the_kernel_accepts_the_request() -> None:
    assert read_counters(add_veth("one", "two")) == {}
    with pytest.raises(OSError, match="No such device"):
        read_counters(4711)
