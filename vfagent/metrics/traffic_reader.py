# SPDX-License-Identifier: Apache-2.0
"""VF traffic counters: each scrape starts a read for the next scrape.

Reading them takes the kernel's rtnl lock. A port that comes up holds it for a second, a broken driver for ever. So a
worker reads them, one at a time, and no scrape waits for it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vfagent.errors import VfagentError
from vfagent.frozen import frozen
from vfagent.kernel.vf_counters import VfCounters, read_counters
from vfagent.metrics.view import PfTraffic
from vfagent.process.workers import Workers

log = logging.getLogger(__name__)

_KIND = "VF counters"

Read = Callable[[int], dict[int, VfCounters]]


@frozen(slots=True)
class Intervals:
    """Seconds. `pause`, `silent_pause`: between two reads; the latter for PFs whose drivers have not counted anything
    yet. `outdated`: older values are omitted, as there was no scrape to refresh them. `deadline`: of a read."""

    pause: float = 5.0
    silent_pause: float = 60.0
    outdated: float = 150.0
    deadline: float = 10.0


INTERVALS = Intervals()


@frozen(slots=True)
class _Answer:
    """The counters that a driver returned for the VFs of a PF."""

    traffic: PfTraffic
    nonzero: bool


@dataclass(slots=True)
class _Pf:
    """The counters of one PF, and when they were read."""

    traffic: PfTraffic | None = None  # None until its driver has counted something
    read_at: float = float("-inf")

    def due(self, now: float, intervals: Intervals) -> bool:
        return now - self.read_at >= (intervals.silent_pause if self.traffic is None else intervals.pause)


class TrafficReader:
    """`netdevs`: the ifindex of each PF that has VFs, by its address."""

    def __init__(
        self,
        netdevs: Callable[[], Mapping[str, int]],
        workers: Workers,
        read: Read = read_counters,
        intervals: Intervals = INTERVALS,
    ) -> None:
        self._netdevs, self._workers, self._read, self._intervals = netdevs, workers, read, intervals
        self._pfs: dict[str, _Pf] = {}
        self._reading: asyncio.Task[None] | None = None

    @property
    def by_pf(self) -> dict[str, PfTraffic]:
        return {address: pf.traffic for address, pf in self._pfs.items() if pf.traffic is not None}

    def scraped(self) -> None:
        now, netdevs = time.monotonic(), self._netdevs()
        self._drop_outdated(netdevs, now)
        due = {
            address: ifindex
            for address, ifindex in netdevs.items()
            if self._pfs.setdefault(address, _Pf()).due(now, self._intervals)
        }
        reading = self._reading is not None and not self._reading.done()
        if due and not (reading or self._workers.hangs(_KIND)):
            self._reading = asyncio.create_task(self._read_all(due))

    def _drop_outdated(self, netdevs: Mapping[str, int], now: float) -> None:
        for address, pf in list(self._pfs.items()):
            if address not in netdevs or now - pf.read_at > self._intervals.outdated:
                del self._pfs[address]

    async def _read_all(self, netdevs: Mapping[str, int]) -> None:
        read, deadline_s = self._read, self._intervals.deadline
        try:
            answers = await self._workers.call(lambda: _read_each(netdevs, read), deadline_s=deadline_s, kind=_KIND)
        except VfagentError as error:
            log.warning("metrics: cannot read VF counters: %s", error)
            answers = {}
        now = time.monotonic()
        for address in netdevs:
            self._update(self._pfs.setdefault(address, _Pf()), answers.get(address), now)

    def _update(self, pf: _Pf, answer: _Answer | None, now: float) -> None:
        pf.read_at = now
        traffic = answer.traffic if answer else None
        # The kernel fills in zeros for a driver that counts nothing: a zero is a value after the first other number.
        if pf.traffic is not None or (answer and answer.nonzero):
            pf.traffic = traffic

    async def stop(self) -> None:
        if self._reading and not self._reading.done():
            self._reading.cancel()
            await asyncio.wait({self._reading})


def _read_each(netdevs: Mapping[str, int], read: Read) -> dict[str, _Answer]:
    """In the worker."""
    answers: dict[str, _Answer] = {}
    for address, ifindex in netdevs.items():
        try:
            counters = read(ifindex)
        except OSError:
            continue  # the netdev is gone, or its VFs do not fit into one message
        nonzero = any(getattr(vf, name) for vf in counters.values() for name in vf.__slots__)
        answers[address] = _Answer(counters, nonzero)
    return answers
