# SPDX-License-Identifier: Apache-2.0
"""One page for all who ask: rendered in a child, at most twice a second, and only when something has changed."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from vfagent.metrics.worker_calls import UnansweredError, worker_call

if TYPE_CHECKING:
    from vfagent.metrics.page import Page
    from vfagent.metrics.view import View

log = logging.getLogger(__name__)

_FRESH_S = 0.5  # scrapes in parallel, and storms of them, share a page
_DEADLINE_S = 10.0


class Renderer:
    """`view` is called in the child: what it copies and sorts costs the event loop nothing."""

    def __init__(
        self, view: "Callable[[], View]", generation: Callable[[], int], keep: Callable[[], tuple[int, ...]]
    ) -> None:
        self._view, self._generation, self._keep = view, generation, keep
        self._page: Page | None = None
        self._shown, self._rendered_at = -1, float("-inf")
        self._under_way: asyncio.Task[None] | None = None

    async def page(self) -> "Page | None":
        """None where the machine has no room for a child."""
        fresh = time.monotonic() - self._rendered_at < _FRESH_S
        if self._page is None or not (fresh or self._shown == self._generation()):
            if self._under_way is None or self._under_way.done():
                self._under_way = asyncio.create_task(self._render())
            await asyncio.wait({self._under_way})
        return self._page

    async def _render(self) -> None:
        from vfagent.metrics.page import render  # not before somebody asks; here, so that each child has it

        generation, now, view = self._generation(), time.monotonic(), self._view
        try:
            self._page = await worker_call(lambda: render(view()), close=self._keep(), deadline_s=_DEADLINE_S)
            self._shown, self._rendered_at = generation, now
        except (OSError, UnansweredError) as error:
            log.error("metrics: cannot render the page: %s", error)
            self._page = None

    async def stop(self) -> None:
        if self._under_way and not self._under_way.done():
            self._under_way.cancel()
            await asyncio.wait({self._under_way})
