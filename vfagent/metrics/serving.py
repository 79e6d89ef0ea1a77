# SPDX-License-Identifier: Apache-2.0
"""Answers scrapes: loaded when the first client connects, and kept when the server moves."""

import socket
from collections.abc import Callable, Mapping

from vfagent.kernel.sysfs import RootedSysfs
from vfagent.metrics.counters import Counters
from vfagent.metrics.limits import ClientLimits
from vfagent.metrics.page import Format, Page
from vfagent.metrics.renderer import Renderer
from vfagent.metrics.server import Context, Server
from vfagent.metrics.traffic_reader import TrafficReader
from vfagent.metrics.usage_reader import Taps, UsageReader
from vfagent.metrics.view import About, View
from vfagent.model.status import Status
from vfagent.process.workers import Workers


class Serving:
    """`netdevs`: the ifindex of each PF that has VFs; `guests`: the taps of each guest that runs."""

    def __init__(
        self,
        status: Callable[[], Status],
        about: Callable[[], About],
        counters: Counters,
        netdevs: Callable[[], Mapping[str, int]],
        workers: Workers,
        guests: Callable[[], Taps],
        limits: ClientLimits,
    ) -> None:
        self._status, self._about, self._counters, self._workers = status, about, counters, workers
        self._limits = limits
        self._traffic = TrafficReader(netdevs, workers)
        self._usage = UsageReader(guests, workers, RootedSysfs())
        self._renderer = Renderer(self._view, workers)

    def server(self, listener: socket.socket, context: Context) -> Server:
        return Server(listener, self.page, self._about, context, self._workers, self._limits)

    def _view(self) -> View:
        return View(self._status(), self._counters, self._traffic.by_pf, self._usage.by_guest)

    async def page(self, form: Format) -> Page | None:
        self._traffic.scraped()
        self._usage.scraped()
        return await self._renderer.page(form)

    async def stop(self) -> None:
        await self._traffic.stop()
        await self._usage.stop()
        await self._renderer.stop()
