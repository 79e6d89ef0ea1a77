# SPDX-License-Identifier: Apache-2.0
"""Why a guest's QEMU has ended: its last message, from the journal."""

import logging
from collections.abc import Callable

from vfagent.guests.state import GuestState
from vfagent.guests.worker_calls import LOG_S, Outcome, WorkerCalls, failure
from vfagent.systemd.log import for_guest
from vfagent.systemd.messages import Message

log = logging.getLogger(__name__)


class Failures:
    """`on_change` is called when a guest has another last message."""

    def __init__(self, worker_calls: WorkerCalls, on_change: Callable[[], None]) -> None:
        self._worker_calls, self._on_change = worker_calls, on_change

    def ask(self, guest: GuestState) -> None:
        name = guest.name
        self._worker_calls.run(lambda: failure(name), lambda outcome: self._take(guest, outcome), LOG_S)

    def _take(self, guest: GuestState, outcome: Outcome) -> None:
        guest.last_line = outcome.line
        if outcome.line:
            for_guest(log, guest.name).of(Message.GUEST_FAILED).error("QEMU's last message: %s", outcome.line)
        self._on_change()
