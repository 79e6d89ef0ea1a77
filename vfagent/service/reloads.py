# SPDX-License-Identifier: Apache-2.0
"""Reloads of the policy: by a signal, or by a call that waits for the verdict. One at a time."""

import asyncio
import contextlib
import logging
from typing import Protocol

from vfagent.errors import PolicyError
from vfagent.policy.types import Policy
from vfagent.service.trial import Trial
from vfagent.service.varlink import VarlinkError
from vfagent.systemd.journal import Notifier

log = logging.getLogger(__name__)


class Reloadable(Protocol):
    """What a reload needs of the agent."""

    is_ready: bool

    async def load(self) -> Policy:
        """Raises PolicyError."""

    @property
    def policy(self) -> Policy:
        """The active one."""

    def activate(self, policy: Policy) -> None: ...

    def stay(self) -> None:
        """The files can be read, and are those of a trial that has lapsed: the active policy stays."""

    def reloaded(self) -> None:
        """After each reload, whether the policy was refused or not."""


class Reloads:
    def __init__(self, agent: Reloadable, trial: Trial, notifier: Notifier) -> None:
        self._agent, self._trial, self._notifier = agent, trial, notifier
        self._lock = asyncio.Lock()
        self._due = self._asked = False
        self._running: asyncio.Task[None] | None = None

    def soon(self, *, asked: bool = True) -> None:
        """A burst of signals is one reload, which starts after the last of them. Not `asked`: a file could not be read,
        and nobody has decided about a policy on trial."""
        self._asked |= asked
        if not self._due:
            self._due = True
            if self._agent.is_ready:
                self._notifier.reloading()
            if self._running is None or self._running.done():
                self._running = asyncio.create_task(self._while_due())

    async def _while_due(self) -> None:
        while self._due:
            self._due, asked, self._asked = False, self._asked, False
            with contextlib.suppress(PolicyError, VarlinkError):
                await self.reload(asked=asked)

    async def requested(self, confirm_s: int | None) -> str:
        """The digest of the policy that is active then. Raises PolicyError, VarlinkError."""
        if self._agent.is_ready:
            self._notifier.reloading()
        return await self.reload(confirm_s)

    async def reload(self, confirm_s: int | None = None, *, asked: bool = True) -> str:
        """Load the policy again. An invalid one leaves the active one as it is, and raises PolicyError."""
        async with self._lock:
            log.info("reloading the policy")
            try:
                policy = await self._agent.load()
                if confirm_s is not None:
                    await self._trial.begin(policy.digest, self._agent.policy, confirm_s)
                elif asked:
                    await self._trial.forget()
                elif not await self._trial.retried(policy):
                    self._agent.stay()
                    return self._agent.policy.digest
                self._agent.activate(policy)
                return policy.digest
            finally:
                if self._agent.is_ready and not self._due:  # before that, READY=1 would end the start
                    self._notifier.ready()
                self._agent.reloaded()

    async def stop(self) -> None:
        if self._running and not self._running.done():
            self._running.cancel()
            await asyncio.wait({self._running})
