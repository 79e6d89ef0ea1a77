# SPDX-License-Identifier: Apache-2.0
"""Compares the active policy with the one on disk, which somebody may have changed and not loaded."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from vfagent.errors import VfagentError
from vfagent.process.workers import Workers
from vfagent.store.policy_on_disk import digest_on_disk

log = logging.getLogger(__name__)

_READ_S = 10.0
_KIND = "policy on disk"


class PolicyComparison:
    """`on_compared` gets the digest that was active at the call, and the one on disk: "" is invalid, None unknown."""

    def __init__(self, root: Path, workers: Workers, on_compared: Callable[[str, str | None], Awaitable[None]]) -> None:
        self.root, self.workers, self.on_compared = root, workers, on_compared
        self._task: asyncio.Task[None] | None = None

    def begin(self, active: str) -> None:
        """Unless the last one hangs, as in a folder on a dead NFS server."""
        running = self._task is not None and not self._task.done()
        if not (running or self.workers.hangs(_KIND)):
            self._task = asyncio.create_task(self._compare(active))

    async def _compare(self, active: str) -> None:
        try:
            read = partial(digest_on_disk, self.root)
            on_disk = await self.workers.call(read, deadline_s=_READ_S, kind=_KIND)
        except VfagentError as error:
            log.warning("policy: cannot be compared with the one on disk: %s", error)
            await self.on_compared(active, None)
        else:
            await self.on_compared(active, on_disk or "")

    async def stop(self) -> None:
        if self._task and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})
