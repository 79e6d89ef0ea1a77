# SPDX-License-Identifier: Apache-2.0
"""Compares the active policy with the one on disk, which somebody may have changed and not loaded."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from vfagent.metrics.worker_calls import UnansweredError, worker_call
from vfagent.store.policy_on_disk import digest_on_disk

log = logging.getLogger(__name__)

_READ_S = 10.0


class PolicyComparison:
    """`on_compared` gets the digest that was active at the call, and the one on disk: "" is invalid, None unknown."""

    def __init__(self, root: Path, on_compared: Callable[[str, str | None], None]) -> None:
        self.root, self.on_compared = root, on_compared
        self._task: asyncio.Task[None] | None = None
        self._hanging: asyncio.Future[None] | None = None  # the end of a worker that did not answer

    def begin(self, active: str, close: tuple[int, ...]) -> None:
        """A folder that hangs, such as one on a dead NFS server, holds one worker and no more."""
        running = self._task is not None and not self._task.done()
        if not running and (self._hanging is None or self._hanging.done()):
            self._task = asyncio.create_task(self._compare(active, close))

    async def _compare(self, active: str, close: tuple[int, ...]) -> None:
        root = self.root
        try:
            on_disk = await worker_call(lambda: digest_on_disk(root), close=close, deadline_s=_READ_S)
        except UnansweredError as error:
            self._hanging = error.ended
            log.warning("policy: cannot be compared with the one on disk: it cannot be read within %g s", _READ_S)
            self.on_compared(active, None)
        except OSError as error:
            log.warning("policy: cannot be compared with the one on disk: no worker could be started: %s", error)
            self.on_compared(active, None)
        else:
            self.on_compared(active, on_disk or "")

    async def stop(self) -> None:
        if self._task and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})
