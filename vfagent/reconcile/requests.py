# SPDX-License-Identifier: Apache-2.0
"""What asks for a reconcile of a PF, and when it is due. Times are the loop's, unless stated."""

import time
from dataclasses import dataclass

ARRIVAL_S = 1.0  # after a new device's first event; its last event starts a reconcile at once
_QUIET_S = 0.1  # the events of one change come in a burst
_LONGEST_DELAY_S = 1.0  # a storm of events does not delay a reconcile for longer
_REST = 3.0  # times the last reconcile: the events of its own steps follow for seconds, and others need the processors
_UDEV_BUSY_S = 5.0  # how long a reconcile that is not urgent waits while udev is busy


@dataclass(slots=True)
class Request:
    """`dirty`: asked for; `urgent`: without a delay. `asked_at`: CLOCK_MONOTONIC of the first event that no convergence
    has followed. `next_at`: in seconds since the epoch, the next attempt or the end of the PF's grace."""

    dirty: bool = False
    urgent: bool = False
    asked_at: float | None = None
    due: float | None = None
    next_at: float | None = None
    _worked_at: float = float("-inf")  # when the last reconcile began, or ended
    _rests_until: float = 0.0  # no reconcile before, except for an event that the PF waits for

    def ask(self, *, urgent: bool) -> None:
        self.dirty, self.urgent = True, self.urgent or urgent
        self.asked_at = self.asked_at or time.monotonic()

    def due_by(self, at: float) -> None:
        self.due = at if self.due is None else min(self.due, at)

    def due_again(self, at: float) -> None:
        """Nobody asked: the PF itself has to be observed again."""
        self.dirty, self.due = True, at

    def is_due(self, now: float) -> bool:
        return self.due is not None and self.due <= now

    def delay_s(self, now: float, *, known: bool, pending: bool) -> float:
        """How long the next reconcile waits. `pending`: something that the PF needs has yet to arrive."""
        if self.urgent or (known and now - self._worked_at > _LONGEST_DELAY_S):
            return 0.0
        if not known:
            return ARRIVAL_S
        return _QUIET_S if pending else max(_QUIET_S, self._rests_until - now)

    def can_wait(self) -> bool:
        """While udev is busy: it makes many events of the VFs' own."""
        self.asked_at = self.asked_at or time.monotonic()
        return not self.urgent and time.monotonic() - self.asked_at < _UDEV_BUSY_S

    def begin(self, now: float) -> None:
        self.dirty, self.urgent, self.due, self._worked_at = False, False, None, now

    def rest(self, now: float) -> None:
        """The reconcile has ended."""
        self._rests_until = now + min(_REST * (now - self._worked_at), _LONGEST_DELAY_S)
        self._worked_at = now
