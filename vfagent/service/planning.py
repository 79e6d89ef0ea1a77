# SPDX-License-Identifier: Apache-2.0
"""Plans that are asked for: in a worker, one after the other."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from vfagent.kernel.protocols import Host
from vfagent.process.workers import Workers
from vfagent.service.varlink import VarlinkError

_PLAN_S = 60.0
_KIND = "a plan"

PlanJson = Callable[[Path, Host], str]
"""The JSON of a host's plan, by the command line that starts the service. Raises VfagentError."""


class Planning:
    def __init__(self, plan: Callable[[], str] | None, workers: Workers) -> None:
        self._plan, self._workers = plan, workers
        self._turn = asyncio.Lock()

    async def request(self) -> str:
        """Raises VfagentError, VarlinkError."""
        if self._plan is None:
            raise VarlinkError("org.varlink.service.MethodNotImplemented", method="io.vfagent.Plan")
        async with self._turn:
            return await self._workers.call(self._plan, deadline_s=_PLAN_S, kind=_KIND)
