# SPDX-License-Identifier: Apache-2.0
"""One page for all clients: rendered by a child process, at most twice a second, and only after a change."""

import asyncio
import logging
import time
from collections.abc import Callable

from vfagent.errors import VfagentError
from vfagent.metrics.page import Page, render
from vfagent.metrics.view import View
from vfagent.process.workers import Workers

log = logging.getLogger(__name__)

_FRESH_S = 0.5  # parallel and frequent scrapes share a page
_DEADLINE_S = 10.0


class Renderer:
    """`view` is called in the child, so that its copying and sorting does not block the event loop."""

    def __init__(self, view: Callable[[], View], generation: Callable[[], int], workers: Workers) -> None:
        self._view, self._generation, self._workers = view, generation, workers
        self._page: Page | None = None
        self._page_generation, self._rendered_at = -1, float("-inf")
        self._rendering: asyncio.Task[None] | None = None

    async def page(self) -> Page | None:
        """None if no child could be started, or did not answer."""
        fresh = time.monotonic() - self._rendered_at < _FRESH_S
        if self._page is None or not (fresh or self._page_generation == self._generation()):
            if self._rendering is None or self._rendering.done():
                self._rendering = asyncio.create_task(self._render())
            await asyncio.wait({self._rendering})
        return self._page

    async def _render(self) -> None:
        generation, now, view = self._generation(), time.monotonic(), self._view
        try:
            self._page = await self._workers.call(lambda: render(view()), deadline_s=_DEADLINE_S)
            self._page_generation, self._rendered_at = generation, now
        except VfagentError as error:
            log.error("metrics: cannot render the page: %s", error)
            self._page = None

    async def stop(self) -> None:
        if self._rendering and not self._rendering.done():
            self._rendering.cancel()
            await asyncio.wait({self._rendering})
