# SPDX-License-Identifier: Apache-2.0
"""A policy on trial: it is left again unless it is confirmed in time, also by a service that was killed meanwhile."""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from vfagent.errors import VfagentError
from vfagent.policy.types import Policy
from vfagent.process.workers import Workers
from vfagent.service.control_interface import AGENT
from vfagent.service.varlink import VarlinkError
from vfagent.store.unconfirmed import FirstPolicy, Unconfirmed, forget, keep, left_s

log = logging.getLogger(__name__)

T = TypeVar("T")

_FILE_S = 10.0
_KIND = "policy on trial"


class Trial:
    """`leave` makes the policy before it the active one; it gets the sentence that says why. `changed` is called when a
    trial begins and when it ends.

    A trial that has lapsed is kept until other files are loaded: a service that starts must not load these.
    """

    def __init__(
        self,
        root: Path,
        workers: Workers,
        first: FirstPolicy,
        leave: Callable[[Policy, str], object],
        changed: Callable[[], object],
    ) -> None:
        self._root, self._workers, self._leave, self._changed = root, workers, leave, changed
        self.ends_at: float | None = None  # in seconds since 1970
        self._kept, self.lapsed = first.trial, first.lapsed
        self._timer: asyncio.TimerHandle | None = None

    @property
    def remarks(self) -> tuple[str, ...]:
        """What its policy's files have come to, where they are not those of the active policy."""
        return (_why(self._kept),) if self._kept and self.lapsed and _differs(self._kept) else ()

    async def resume(self, on_disk: str) -> None:
        """At start, with the digest of the files. Those that cannot be loaded, without one, may be the trial's."""
        if (trial := self._kept) is None or self.lapsed:
            return
        if on_disk not in ("", trial.digest):
            await self._forget_in_worker()
            return
        if not on_disk:
            log.warning("policy %s is on trial, and its files cannot be loaded: it ends in time", trial.digest)
        self._begin(trial)

    async def begin(self, digest: str, active: Policy, within_s: float) -> None:
        """Before the policy with this digest becomes the active one. Raises VarlinkError."""
        before = self._kept.before if self._kept and not self.lapsed else active
        try:
            trial = await self._in_worker(partial(keep, self._root, digest, before, within_s))
        except VfagentError as error:
            raise VarlinkError(f"{AGENT}.CannotConfirm", reason=str(error)) from error
        self._begin(trial)
        log.info("policy %s is on trial for %g s: vfagent confirm keeps it", digest, within_s)

    def _begin(self, trial: Unconfirmed) -> None:
        self._cancel()
        self._kept, self.lapsed = trial, False
        left = left_s(self._root, trial)
        self._timer = asyncio.get_running_loop().call_later(left, self._end, trial)
        self.ends_at = time.time() + left
        self._changed()

    def _end(self, trial: Unconfirmed) -> None:
        self._timer, self.ends_at, self.lapsed = None, None, True
        self._changed()
        if _differs(trial):
            self._leave(trial.restored, _why(trial))

    async def confirm(self) -> str:
        """The digest that is kept. Raises VarlinkError."""
        if self._kept is None or self.lapsed:
            raise VarlinkError(f"{AGENT}.NothingToConfirm")
        digest = self._kept.digest
        await self.forget()
        log.info("policy %s is confirmed", digest)
        return digest

    async def forget(self) -> None:
        """It is confirmed, or files are loaded for good. Raises VarlinkError, and then goes on."""
        if (error := await self._forget_in_worker()) is not None:
            raise VarlinkError(f"{AGENT}.CannotEndTrial", reason=str(error))

    async def _forget_in_worker(self) -> VfagentError | None:
        if (trial := self._kept) is None:
            return None
        self._cancel()
        try:
            await self._in_worker(partial(forget, self._root))
        except VfagentError as error:
            log.error("policy %s is on trial still: cannot end that: %s", trial.digest, error)
            if not self.lapsed:
                self._begin(trial)
            return error
        self._kept, self.lapsed = None, False
        self._changed()
        return None

    async def retried(self, policy: Policy) -> bool:
        """Whether this policy, whose files can be read at last, is to be loaded; False where its trial has lapsed."""
        if self._kept and self._kept.digest == policy.digest:
            return not self.lapsed
        await self._forget_in_worker()
        return True

    async def restored(self) -> None:
        """The files are those of the active policy again."""
        if self.lapsed:
            await self._forget_in_worker()

    def _cancel(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = self.ends_at = None

    def stop(self) -> None:
        """The next service goes on with it."""
        self._cancel()

    async def _in_worker(self, function: Callable[[], T]) -> T:
        """Raises VfagentError."""
        return await self._workers.call(function, deadline_s=_FILE_S, kind=_KIND)


def _differs(trial: Unconfirmed) -> bool:
    """Files that had not changed can be put on trial, too."""
    return trial.digest != trial.before.digest


def _why(trial: Unconfirmed) -> str:
    before = f"the policy before it, {trial.before.digest}," if trial.before.files else "no policy, as before it,"
    return f"policy {trial.digest} was not confirmed: {before} is active (vfagent apply loads the files again)"
