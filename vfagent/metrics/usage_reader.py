# SPDX-License-Identifier: Apache-2.0
"""What guests use: as with VF counters, each scrape starts a read for the next one, in a worker.

To read a cgroup's counters, the kernel sums up those of all processors, under a lock.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from vfagent.errors import VfagentError
from vfagent.guests.spec.nics import Tap
from vfagent.kernel.guest_usage import read_usage
from vfagent.kernel.protocols import Sysfs
from vfagent.model.guest_usage import GuestUsage
from vfagent.process.workers import Workers
from vfagent.store.guest_records import guest_cgroup

log = logging.getLogger(__name__)

_OUTDATED_S = 150.0  # older values are omitted: there was no scrape to refresh them
_KIND = "guests' usage"

Taps = Mapping[str, tuple[Tap, ...]]
"""Of each running guest, by its name."""


class UsageReader:
    """`guests`: those that run now; `pause_s`: between two reads; `deadline_s`: of a read."""

    def __init__(
        self,
        guests: Callable[[], Taps],
        workers: Workers,
        sysfs: Sysfs,
        *,
        pause_s: float = 5.0,
        deadline_s: float = 10.0,
    ) -> None:
        self._guests, self._workers, self._sysfs = guests, workers, sysfs
        self._pause_s, self._deadline_s = pause_s, deadline_s
        self._usage: dict[str, GuestUsage] = {}
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    @property
    def by_guest(self) -> Mapping[str, GuestUsage]:
        return self._usage

    def scraped(self) -> None:
        guests, age_s = self._guests(), time.monotonic() - self._read_at
        self._usage = {name: usage for name, usage in self._usage.items() if name in guests and age_s < _OUTDATED_S}
        reading = self._reading is not None and not self._reading.done()
        if guests and age_s >= self._pause_s and not (reading or self._workers.hangs(_KIND)):
            self._reading = asyncio.create_task(self._read(guests))

    async def _read(self, guests: Taps) -> None:
        sysfs = self._sysfs
        try:
            self._usage = await self._workers.call(
                lambda: {
                    name: read_usage(sysfs, guest_cgroup(name), tuple(tap.name for tap in taps))
                    for name, taps in guests.items()
                },
                deadline_s=self._deadline_s,
                kind=_KIND,
            )
        except VfagentError as error:
            log.warning("metrics: cannot read what guests use: %s", error)
            self._usage = {}
        self._read_at = time.monotonic()

    async def stop(self) -> None:
        if self._reading and not self._reading.done():
            self._reading.cancel()
            await asyncio.wait({self._reading})
