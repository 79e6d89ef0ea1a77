# SPDX-License-Identifier: Apache-2.0
"""The listener of /metrics: opened as the policy says, moved by a reload, closed at the end."""

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from vfagent.errors import VfagentError
from vfagent.metrics.address import listen, remove_path
from vfagent.metrics.counters import Counters
from vfagent.metrics.limits import CLIENT_LIMITS, ClientLimits
from vfagent.metrics.tls import Certificate
from vfagent.metrics.view import About
from vfagent.model.status import Status
from vfagent.policy.types import AgentRule, MetricsTls
from vfagent.process.workers import Workers

if TYPE_CHECKING:
    from ssl import SSLContext

    from vfagent.metrics.server import Server
    from vfagent.metrics.serving import Serving
    from vfagent.metrics.usage_reader import Taps

log = logging.getLogger(__name__)


class Endpoint:
    """`netdevs`: the ifindex of each PF that has VFs; `guests`: the taps of each guest that runs."""

    def __init__(
        self,
        status: Callable[[], Status],
        about: Callable[[], About],
        counters: Counters,
        netdevs: Callable[[], Mapping[str, int]],
        workers: Workers,
        guests: "Callable[[], Taps]",
        limits: ClientLimits = CLIENT_LIMITS,
    ) -> None:
        self._status, self._about, self._counters = status, about, counters
        self._netdevs, self._workers, self._guests = netdevs, workers, guests
        self._limits = limits
        self._listener: socket.socket | None = None
        self._where = ""
        self._tls: MetricsTls | None = None
        self._certificate: Certificate | None = None
        self._serving: Serving | None = None
        self._server: Server | None = None
        self._ending = set[asyncio.Task[None]]()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Those that no worker may keep."""
        if self._server:
            return self._server.descriptors
        return (self._listener.fileno(),) if self._listener else ()

    def configure(self, rule: AgentRule) -> None:
        """Serve at the policy's address. A failure is logged, and retried at the next call."""
        if rule.metrics_tls != self._tls or rule.metrics != self._where:
            self._close()
        if self._listener or not rule.metrics:
            return
        try:
            self._certificate = _certificate(rule.metrics_tls)
            self._listener = listen(rule.metrics)
        except VfagentError as error:
            log.error("%s%s", error, f" ({error.hint})" if error.hint else "")
            return
        self._where, self._tls = rule.metrics, rule.metrics_tls
        asyncio.get_running_loop().add_reader(self._listener, self._begin, self._listener)
        log.info("metrics: served at %s", rule.metrics)

    def _begin(self, listener: socket.socket) -> None:
        """The first client is there."""
        from vfagent.metrics.serving import Serving  # late: 15 ms and 0.3 MiB of the service's start

        asyncio.get_running_loop().remove_reader(listener)
        self._serving = self._serving or Serving(
            self._status, self._about, self._counters, self._netdevs, self._workers, self._guests, self._limits
        )
        self._server = self._serving.server(listener, self._context)

    def _context(self) -> "SSLContext | None":
        return self._certificate.context() if self._certificate else None

    def _close(self) -> None:
        if self._listener is None:
            return
        remove_path(self._listener)
        # Now and not in a task: by then, the descriptor may belong to another socket.
        asyncio.get_running_loop().remove_reader(self._listener)
        if self._server:
            self._server.close()
            task = asyncio.create_task(self._server.closed())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
        self._listener.close()
        self._listener, self._server, self._where, self._tls = None, None, "", None

    async def stop(self) -> None:
        self._close()
        if self._serving:
            await self._serving.stop()
        if self._ending:
            await asyncio.wait(self._ending)


def _certificate(rule: MetricsTls | None) -> Certificate | None:
    if rule is None:
        return None
    try:
        return Certificate(rule)
    except OSError as error:
        hint = "the service runs without CAP_DAC_OVERRIDE: root must own the files"
        raise VfagentError(f"metrics: cannot use the certificate: {error}", hint=hint) from error
