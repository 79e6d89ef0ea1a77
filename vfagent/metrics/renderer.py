# SPDX-License-Identifier: Apache-2.0
"""One page of each format for all clients: rendered by a child process, at most twice a second."""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from vfagent.errors import VfagentError
from vfagent.metrics.page import Format, Page, render
from vfagent.metrics.view import View
from vfagent.process.workers import Workers

log = logging.getLogger(__name__)

_FRESH_S = 0.5  # parallel and frequent scrapes share a page
_DEADLINE_S = 10.0


@dataclass(slots=True)
class _Rendered:
    """The last page of one format."""

    page: Page | None = None
    at: float = float("-inf")
    rendering: asyncio.Task[None] | None = None


class Renderer:
    """`view` is called in the child, so that its copying and sorting does not block the event loop."""

    def __init__(self, view: Callable[[], View], workers: Workers) -> None:
        self._view, self._workers = view, workers
        self._rendered = {form: _Rendered() for form in Format}

    async def page(self, form: Format) -> Page | None:
        """None if no child could be started, or did not answer."""
        last = self._rendered[form]
        if last.page is None or time.monotonic() - last.at >= _FRESH_S:
            if last.rendering is None or last.rendering.done():
                last.rendering = asyncio.create_task(self._render(form))
            await asyncio.wait({last.rendering})
        return last.page

    async def _render(self, form: Format) -> None:
        last, now, view, pid = self._rendered[form], time.monotonic(), self._view, os.getpid()
        try:
            last.page = await self._workers.call(lambda: render(view(), form, pid), deadline_s=_DEADLINE_S)
            last.at = now
        except VfagentError as error:
            log.error("metrics: cannot render the page: %s", error)
            last.page = None

    async def stop(self) -> None:
        running = [last.rendering for last in self._rendered.values() if last.rendering and not last.rendering.done()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
