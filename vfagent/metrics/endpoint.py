# SPDX-License-Identifier: Apache-2.0
"""The service's /metrics as the policy wants it: bound, bound anew at a reload, and gone at the end."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from vfagent.errors import VfagentError
from vfagent.metrics.address import forget, listen
from vfagent.metrics.renderer import Renderer
from vfagent.metrics.server import Server
from vfagent.metrics.tls import Certificate
from vfagent.metrics.traffic import TrafficReader
from vfagent.policy.types import AgentRule, MetricsTls
from vfagent.status import Status
from vfagent.tally import Tally

if TYPE_CHECKING:
    from ssl import SSLContext

    from vfagent.metrics.page import Page
    from vfagent.metrics.view import View

log = logging.getLogger(__name__)


class Endpoint:
    """`netdevs`: the ifindex of each PF that has VFs; `keep`: further descriptors that no child may hold."""

    def __init__(
        self,
        status: Callable[[], Status],
        tally: Tally,
        netdevs: Callable[[], Mapping[str, int]],
        keep: Callable[[], tuple[int, ...]] = tuple,
    ) -> None:
        self._status, self._tally, self._keep = status, tally, keep
        self._traffic = TrafficReader(netdevs, tally.changed, self._kept)
        self._renderer = Renderer(self._view, lambda: tally.generation, self._kept)
        self._server: Server | None = None
        self._where = ""
        self._tls: MetricsTls | None = None
        self._certificate: Certificate | None = None
        self._ending = set[asyncio.Task[None]]()

    @property
    def descriptors(self) -> tuple[int, ...]:
        return self._server.descriptors if self._server else ()

    def _kept(self) -> tuple[int, ...]:
        return (*self.descriptors, *self._keep())

    def _view(self) -> "View":
        from vfagent.metrics.view import View

        return View(self._status(), self._tally, self._traffic.counters)

    async def _page(self) -> "Page | None":
        self._traffic.scraped()
        return await self._renderer.page()

    def _context(self) -> "SSLContext | None":
        return self._certificate.context() if self._certificate else None

    def configure(self, rule: AgentRule) -> None:
        """Serve where the policy says. What fails is logged, and tried again at the next call."""
        if rule.metrics_tls != self._tls or rule.metrics != self._where:
            self._close()
        if self._server or not rule.metrics:
            return
        try:
            self._certificate = _certificate(rule.metrics_tls)
            self._server = Server(listen(rule.metrics), self._page, self._context)
        except VfagentError as error:
            log.error("%s%s", error, f" ({error.hint})" if error.hint else "")
            return
        self._where, self._tls = rule.metrics, rule.metrics_tls
        log.info("metrics: served at %s", rule.metrics)

    def _close(self) -> None:
        if self._server is None:
            return
        forget(self._server.listener)
        self._server.close()
        task = asyncio.create_task(self._server.closed())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        self._server, self._where, self._tls = None, "", None

    async def stop(self) -> None:
        self._close()
        await self._traffic.stop()
        await self._renderer.stop()
        if self._ending:
            await asyncio.wait(self._ending)


def _certificate(rule: MetricsTls | None) -> Certificate | None:
    try:
        return Certificate(rule) if rule else None
    except OSError as error:
        hint = "vfagent reads files as root without the right to pass over their modes: root must own them"
        raise VfagentError(f"metrics: cannot use the certificate: {error}", hint=hint) from error
