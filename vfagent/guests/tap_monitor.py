# SPDX-License-Identifier: Apache-2.0
"""Keeps the taps of running guests in their bridges, also where a bridge is made again."""

import asyncio
import logging
from collections.abc import Mapping

from vfagent.guests.spec.nics import Tap, taps_of
from vfagent.guests.state import GuestState
from vfagent.guests.taps import TapsReport, attach_all
from vfagent.guests.worker_calls import Outcome, WorkerCalls
from vfagent.kernel.protocols import Host

log = logging.getLogger(__name__)

_SOON_S = 0.2
_LIMIT_S = 20.0


class TapMonitor:
    def __init__(
        self, host: Host, worker_calls: WorkerCalls, guests: Mapping[str, GuestState], machine_id: str
    ) -> None:
        self._host, self._worker_calls = host, worker_calls
        self._guests, self._machine_id = guests, machine_id
        self._report = TapsReport()
        self._timer: asyncio.TimerHandle | None = None
        self._busy = False

    def by_guest(self) -> dict[str, tuple[Tap, ...]]:
        """Of each guest that runs; those of one that was started for an older rule are not known."""
        running = {name: guest for name, guest in self._guests.items() if guest.running}
        return {name: self._taps_of(guest) for name, guest in running.items()}

    def _taps_of(self, guest: GuestState) -> tuple[Tap, ...]:
        known = guest.placement is not None and guest.unit_rule == guest.digest
        return taps_of(guest.placement.rule, self._machine_id) if known and guest.placement else ()

    def links_changed(self, ifindexes: set[int]) -> None:
        """With problems any link counts: it may be the bridge."""
        if self._report.problems or self._report.ifindexes & ifindexes:
            self.attach_soon()

    def attach_soon(self) -> None:
        if self._timer is None and any(self.by_guest().values()):
            self._timer = asyncio.get_running_loop().call_later(_SOON_S, self._attach)

    def _attach(self) -> None:
        self._timer = None
        taps, host = tuple(tap for taps in self.by_guest().values() for tap in taps), self._host
        if self._busy:
            self.attach_soon()
        elif taps:
            self._busy = True
            self._worker_calls.run(lambda: Outcome(taps=attach_all(taps, host)), self._finish, _LIMIT_S)

    def _finish(self, outcome: Outcome) -> None:
        self._busy, before = False, self._report
        report = TapsReport((f"taps: {outcome.error}",), before.ifindexes) if outcome.error else outcome.taps
        for text in report.problems:
            if text not in before.problems:
                log.error("guests: %s", text)
        self._report = report

    def stop(self) -> None:
        if self._timer:
            self._timer.cancel()
