# SPDX-License-Identifier: Apache-2.0
"""Reloads of the policy: by a signal, or by a call that waits for the verdict. One at a time."""

import asyncio
import contextlib
import logging
from typing import Protocol

from vfagent.errors import PolicyError
from vfagent.policy.types import Policy
from vfagent.service.trial import Trial
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

    def reloaded(self) -> None:
        """After each reload, whether the policy was refused or not."""


class Reloads:
    def __init__(self, agent: Reloadable, trial: Trial, notifier: Notifier) -> None:
        self._agent, self._trial, self._notifier = agent, trial, notifier
        self._lock = asyncio.Lock()
        self._due = False
        self._running: asyncio.Task[None] | None = None

    def soon(self) -> None:
        """A burst of signals is one reload, which starts after the last of them."""
        if not self._due:
            self._due = True
            if self._agent.is_ready:
                self._notifier.reloading()
            if self._running is None or self._running.done():
                self._running = asyncio.create_task(self._while_due())

    async def _while_due(self) -> None:
        while self._due:
            self._due = False
            with contextlib.suppress(PolicyError):
                await self.reload()

    async def requested(self, confirm_s: int | None) -> str:
        """The digest of the policy that is active then. Raises PolicyError, VarlinkError."""
        if self._agent.is_ready:
            self._notifier.reloading()
        return await self.reload(confirm_s)

    async def reload(self, confirm_s: int | None = None) -> str:
        """Load the policy again. An invalid one leaves the active one as it is, and raises PolicyError."""
        async with self._lock:
            log.info("reloading the policy")
            try:
                policy = await self._agent.load()
                if confirm_s is None:
                    self._trial.forget()
                else:
                    self._trial.begin(policy.digest, self._agent.policy, confirm_s)
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
