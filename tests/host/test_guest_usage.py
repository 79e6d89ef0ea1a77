# SPDX-License-Identifier: Apache-2.0
"""What guests use, by cgroups and taps: read for the next scrape, by a worker that may hang."""

import asyncio
from pathlib import Path

import pytest

from tests.host.leaks import children, run_to_end
from tests.host.tree import put
from tests.host.waiting import until, wait_until
from vfagent.guests.spec.nics import Tap
from vfagent.kernel.guest_usage import read_usage
from vfagent.kernel.sysfs import RootedSysfs
from vfagent.metrics.usage_reader import UsageReader
from vfagent.model.guest_usage import GuestUsage, NicCounters
from vfagent.process.workers import Workers

CGROUP = "sys/fs/cgroup/machine.slice/vfagent-guest-x.service"
TAP = Tap("vfg-0-0", "br0", None, "fe:00:00:00:00:01")
FILES = {
    f"{CGROUP}/cpu.stat": "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\n",
    f"{CGROUP}/memory.current": "536870912\n",
    f"{CGROUP}/io.stat": "8:0 rbytes=4096 wbytes=512 rios=1 wios=1 dbytes=0 dios=0\n253:1 rbytes=1 wbytes=2\n7:0\n",
    "sys/class/net/vfg-0-0/statistics/rx_bytes": "1500",
    "sys/class/net/vfg-0-0/statistics/tx_bytes": "900",
    "sys/class/net/vfg-0-0/statistics/rx_packets": "3",
    "sys/class/net/vfg-0-0/statistics/tx_packets": "2",
}
USAGE = GuestUsage(2.5, 536870912, 4097, 514, (NicCounters(900, 1500, 2, 3),))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for path, text in FILES.items():
        put(tmp_path / path, text)
    return tmp_path


def test_a_guest_receives_what_its_tap_sends(root: Path) -> None:
    assert read_usage(RootedSysfs(root), CGROUP, (TAP.name,)) == USAGE


@pytest.mark.parametrize("text", ["", "usage_usec\n", "usage_usec -1\n", "usage_usec 1e9\n", "\0\xff", "٣"])
def test_what_cannot_be_read_is_unknown(root: Path, text: str) -> None:
    for path in FILES:
        put(root / path, text)
    nothing = GuestUsage(read_bytes=0, written_bytes=0, nics=(NicCounters(),))
    assert read_usage(RootedSysfs(root), CGROUP, (TAP.name,)) == nothing
    assert read_usage(RootedSysfs(root), "sys/none", ()) == GuestUsage()


def test_usage_is_read_for_the_next_scrape_while_a_guest_runs(root: Path) -> None:
    async def run() -> None:
        running = {"x": (TAP,)}
        usage = UsageReader(lambda: running, Workers(), RootedSysfs(root))
        usage.scraped()
        assert usage.by_guest == {}
        await until(lambda: usage.by_guest)
        assert usage.by_guest == {"x": USAGE}
        running.clear()
        usage.scraped()
        assert usage.by_guest == {}
        await usage.stop()

    run_to_end(run())


class Hanging(RootedSysfs):
    """Until the file `answers` is in its root."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._answers = root / "answers"

    def read(self, path: str) -> str | None:
        wait_until(self._answers.exists)
        return super().read(path)


@pytest.mark.usefixtures("unkillable")
def test_a_read_that_hangs_holds_one_worker_and_no_scrape(root: Path) -> None:
    async def run() -> None:
        workers, before = Workers(dying_s=0.1), len(children())
        usage = UsageReader(lambda: {"x": ()}, workers, Hanging(root), pause_s=0.0, deadline_s=0.2)
        usage.scraped()
        await until(lambda: usage._reading is not None and usage._reading.done())
        for _ in range(3):
            usage.scraped()
            await asyncio.sleep(0.1)
        assert len(children()) == before + 1
        assert usage.by_guest == {}
        put(root / "answers", "")
        await until(lambda: len(children()) == before)
        usage.scraped()
        await until(lambda: usage.by_guest)
        await usage.stop()

    run_to_end(run())
