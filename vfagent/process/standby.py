# SPDX-License-Identifier: Apache-2.0
"""One worker kept ready for the next reconcile, so that a PF that is plugged in does not wait for a fork."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

from vfagent.process import memory, worker
from vfagent.process.workers import Workers, end

_IDLE_S = 1.0  # a fork takes processor time, so it waits until nothing else is done
_MOST_WAITS = 60  # then udev is not busy, but has died
_COLLECT_S = 60.0  # little memory is freed, and a collection takes longer on a larger host


class StandbyWorker:
    """`body` carries out a worker's task, `warm_up` runs before it has one. `load` imports what only workers need.

    While `busy` returns true no worker is forked: a fork takes processor time from the worker that has a task, and the
    service writes that worker's reports into pages that it would no longer share with the new one. While `crowded`
    returns true, other processes need the time more.
    """

    def __init__(
        self,
        workers: Workers,
        body: Callable[[Any, worker.Send], None],
        warm_up: Callable[[], None],
        load: Callable[[], object],
        *,
        busy: Callable[[], bool],
        crowded: Callable[[], bool],
    ) -> None:
        self._workers, self._body, self._warm_up, self._load = workers, body, warm_up, load
        self._busy, self._crowded = busy, crowded
        self.ready: worker.Standby | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waits = 0
        self._stopped = False
        self._collected_at = float("-inf")

    def begin(self, task: Any) -> worker.Worker:
        """A worker with this task: the standby worker, or one that is forked now."""
        standby, self.ready = self.ready, None
        if standby and standby.begin(task):
            return standby.worker
        if standby:
            end(standby.worker)
        memory.share()
        return self._workers.start(lambda send: self._body(task, send))

    def renew_soon(self) -> None:
        """Fork another one when idle. To be called again when `busy` has changed."""
        self._cancel_timer()
        if not self._stopped:
            self._timer = asyncio.get_running_loop().call_later(_IDLE_S, self._renew)

    def _renew(self) -> None:
        if self.ready is None and self._crowded() and self._waits < _MOST_WAITS:
            self._waits += 1
            self.renew_soon()
        else:
            self.renew_now()

    def renew_now(self) -> None:
        self._cancel_timer()
        if self._stopped or self._busy() or self.ready is not None:
            return
        self._waits = 0
        self._load()
        self._tidy()
        memory.share()
        with contextlib.suppress(OSError):  # without one, a reconcile forks its own
            self.ready = worker.prepare(self._body, self._warm_up, close=self._workers.private())

    def _cancel_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = None

    def _tidy(self) -> None:
        """Free what the last reconciles left. Not beside a standby worker: it shares the pages that this writes to."""
        if (now := time.monotonic()) - self._collected_at > _COLLECT_S:
            self._collected_at = now
            memory.collect()
        memory.give_back()

    def stop(self) -> None:
        self._stopped = True
        self._cancel_timer()
        if self.ready:
            self.ready.dismiss()
            end(self.ready.worker)
            self.ready = None
