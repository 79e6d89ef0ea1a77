# SPDX-License-Identifier: Apache-2.0
"""VF traffic counters, read when somebody scrapes, for the next scrape.

Reading them takes the kernel's rtnl lock, which a port that comes up holds for a second and a broken driver for
ever. So a worker reads them, one at a time, and no scrape waits for it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vfagent.frozen import frozen
from vfagent.kernel.vf_counters import VfCounters, read_counters
from vfagent.metrics.worker_calls import UnansweredError, worker_call

if TYPE_CHECKING:
    from vfagent.metrics.view import PfTraffic

log = logging.getLogger(__name__)

_PAUSE_S = 5.0
_SILENT_PAUSE_S = 60.0  # for PFs whose drivers have shown nothing yet
_OUTDATED_S = 150.0  # nobody scraped in between: rather nothing than what was true long ago
_DEADLINE_S = 10.0

Read = Callable[[int], dict[int, VfCounters]]


@frozen(slots=True)
class _Found:
    """What a driver answered for a PF's VFs."""

    traffic: "PfTraffic"
    counted: bool  # whether anything but zeros


@dataclass(slots=True)
class _Pf:
    """What is known of one PF's counters, and since when."""

    traffic: "PfTraffic | None" = None  # None until its driver has counted something
    read_at: float = float("-inf")

    def due(self, now: float) -> bool:
        return now - self.read_at >= (_PAUSE_S if self.traffic else _SILENT_PAUSE_S)


class TrafficReader:
    """`netdevs`: the ifindex of each PF that has VFs, by its address."""

    def __init__(
        self,
        netdevs: Callable[[], Mapping[str, int]],
        changed: Callable[[], None],
        keep: Callable[[], tuple[int, ...]],
        read: Read = read_counters,
    ) -> None:
        self._netdevs, self._changed, self._keep, self._read = netdevs, changed, keep, read
        self._pfs: dict[str, _Pf] = {}
        self._under_way: asyncio.Task[None] | None = None
        self._stuck: asyncio.Future[None] | None = None

    @property
    def found(self) -> "dict[str, PfTraffic]":
        return {address: pf.traffic for address, pf in self._pfs.items() if pf.traffic}

    def scraped(self) -> None:
        now, netdevs = time.monotonic(), self._netdevs()
        self._drop_outdated(netdevs, now)
        due = {
            address: ifindex for address, ifindex in netdevs.items() if self._pfs.setdefault(address, _Pf()).due(now)
        }
        if due and not self._busy:
            self._under_way = asyncio.create_task(self._read_all(due))

    @property
    def _busy(self) -> bool:
        """A worker is reading, or hangs in the kernel: then another would, too."""
        return any(one is not None and not one.done() for one in (self._under_way, self._stuck))

    def _drop_outdated(self, netdevs: Mapping[str, int], now: float) -> None:
        for address, pf in list(self._pfs.items()):
            if address not in netdevs or now - pf.read_at > _OUTDATED_S:
                del self._pfs[address]
                if pf.traffic:
                    self._changed()

    async def _read_all(self, netdevs: Mapping[str, int]) -> None:
        read = self._read
        try:
            found = await worker_call(lambda: _each(netdevs, read), close=self._keep(), deadline_s=_DEADLINE_S)
        except (OSError, UnansweredError) as error:
            log.warning("metrics: cannot read VF counters: %s", error)
            self._stuck = error.ended if isinstance(error, UnansweredError) else None
            found = {}
        now = time.monotonic()
        for address in netdevs:
            self._take(self._pfs.setdefault(address, _Pf()), found.get(address), now)

    def _take(self, pf: _Pf, found: "_Found | None", now: float) -> None:
        pf.read_at = now
        traffic = found.traffic if found else None
        # Once a driver has counted anything, a zero is a number: until then it only means that nothing is known.
        if traffic != pf.traffic and (pf.traffic or (found and found.counted)):
            pf.traffic = traffic
            self._changed()

    async def stop(self) -> None:
        if self._under_way and not self._under_way.done():
            self._under_way.cancel()
            await asyncio.wait({self._under_way})


def _counted(found: VfCounters) -> bool:
    return any(getattr(found, name) for name in found.__slots__)


def _each(netdevs: Mapping[str, int], read: Read) -> dict[str, _Found]:
    """In the worker."""
    from vfagent.metrics.vf_traffic import written

    found: dict[str, _Found] = {}
    for address, ifindex in netdevs.items():
        try:
            counters = read(ifindex)
        except OSError:
            continue  # it is gone, or has too many VFs for one message
        counted = any(_counted(one) for one in counters.values())
        found[address] = _Found(written(address, counters), counted)
    return found
