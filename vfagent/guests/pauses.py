# SPDX-License-Identifier: Apache-2.0
"""Guests that QEMU has paused: it does so after an error of a VF, of a disk or of KVM, and its unit stays active."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from vfagent.guests.state import GuestState
from vfagent.guests.worker_calls import ASK_S, Outcome, RunState, WorkerCalls, ask
from vfagent.model.guest_unit import PAUSED
from vfagent.systemd.log import for_guest

log = logging.getLogger(__name__)

_EVENT_S = 1.0  # QEMU reads the VF's error from an eventfd, which may be later than the kernel's event
_SOONEST_S = 10.0


class PauseMonitor:
    """Asks the running guests at each resync, and after an event of one of their VFs."""

    def __init__(
        self, worker_calls: WorkerCalls, bus: str, guests: Mapping[str, GuestState], on_change: Callable[[], None]
    ) -> None:
        self.worker_calls, self.bus, self.guests, self.on_change = worker_calls, bus, guests, on_change
        self._asking = self._again = self._stopped = False  # `_again`: an event came while they were asked
        self._asked_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    def ask_soon(self) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is None:
            self._timer = loop.call_at(max(loop.time() + _EVENT_S, self._asked_at + _SOONEST_S), self.ask)

    def ask(self) -> None:
        self._cancel()
        names = tuple(name for name, guest in self.guests.items() if self._may_run(guest))
        self._again = self._asking
        if self._asking or self._stopped or not names:
            return
        self._asking, self._asked_at, bus = True, asyncio.get_running_loop().time(), self.bus
        pids = {name: guest.unit.pid for name in names if (guest := self.guests[name]).unit}
        self.worker_calls.run(
            lambda: ask(bus, names), lambda outcome: self._answered(outcome, pids), ASK_S * len(names)
        )

    @staticmethod
    def _may_run(guest: GuestState) -> bool:
        return guest.job is None and guest.unit is not None and guest.unit.active == "active" and guest.unit.pid > 0

    def _answered(self, outcome: Outcome, pids: Mapping[str, int]) -> None:
        self._asking = False
        for answer in outcome.states:
            if guest := self.guests.get(answer.guest):
                self._take(guest, answer, pids[answer.guest])
        if self._again:
            self._again = False
            self.ask_soon()
        self.on_change()

    def _take(self, guest: GuestState, answer: RunState, pid: int) -> None:
        before = guest.run_state
        guest.paused = (pid, answer.state) if answer.state in PAUSED else None
        if guest.run_state is None or guest.run_state == before:
            return
        guest_log = for_guest(log, guest.name)
        why = f"QEMU has paused it ({guest.run_state}): {PAUSED[guest.run_state]}"
        if answer.ended:
            guest_log.error("%s; it was killed, so that systemd restarts it", why)
        else:
            guest_log.error("%s; its rule does not restart it: vfagent guest stop, then start", why)

    def _cancel(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = None

    def stop(self) -> None:
        self._stopped = True
        self._cancel()
