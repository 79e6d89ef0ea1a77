# SPDX-License-Identifier: Apache-2.0
"""What answers scrapes: loaded when the first client is there, and kept when the server moves."""

import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from vfagent.metrics.counters import Counters
from vfagent.metrics.renderer import Renderer
from vfagent.metrics.server import Context, Server
from vfagent.metrics.traffic_reader import TrafficReader
from vfagent.model.status import Status

if TYPE_CHECKING:
    from vfagent.metrics.page import Page
    from vfagent.metrics.view import View


class Serving:
    """`netdevs`: the ifindex of each PF that has VFs; `keep`: the descriptors that no child may hold."""

    def __init__(
        self,
        status: Callable[[], Status],
        counters: Counters,
        netdevs: Callable[[], Mapping[str, int]],
        keep: Callable[[], tuple[int, ...]],
    ) -> None:
        self._status, self._tally = status, counters
        self._traffic = TrafficReader(netdevs, counters.changed, keep)
        self._renderer = Renderer(self._view, lambda: counters.generation, keep)

    def server(self, listener: socket.socket, context: Context) -> Server:
        return Server(listener, self.page, context)

    def _view(self) -> "View":
        from vfagent.metrics.view import View

        return View(self._status(), self._tally, self._traffic.found)

    async def page(self) -> "Page | None":
        self._traffic.scraped()
        return await self._renderer.page()

    async def stop(self) -> None:
        await self._traffic.stop()
        await self._renderer.stop()
