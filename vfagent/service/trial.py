# SPDX-License-Identifier: Apache-2.0
"""A policy on trial: it is left again unless it is confirmed in time, also by a service that was killed meanwhile."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from vfagent.policy.types import Policy
from vfagent.service.control_interface import AGENT
from vfagent.service.varlink import VarlinkError
from vfagent.store.unconfirmed import Unconfirmed, UnconfirmedFile

log = logging.getLogger(__name__)


class Trial:
    """`leave` makes the policy before it the active one; it gets the sentence that says why."""

    def __init__(self, root: Path, leave: Callable[[Policy, str], object]) -> None:
        self._file, self._leave = UnconfirmedFile(root), leave
        self._trial: Unconfirmed | None = None
        self._timer: asyncio.TimerHandle | None = None

    def resume(self, active: str) -> str | None:
        """At start. Why the policy on disk is not the active one, where it was left."""
        trial = self._file.read()
        if trial is None:
            return None
        if active == trial.digest:
            self._begin(trial)
        elif active == trial.before.digest:
            return _why(trial)
        else:
            self._file.forget()
        return None

    def begin(self, digest: str, active: Policy, within_s: float) -> None:
        """Before the policy with this digest becomes the active one. Raises VarlinkError."""
        before = self._trial.before if self._trial else active
        try:
            trial = self._file.keep(digest, before, within_s)
        except OSError as error:
            raise VarlinkError(f"{AGENT}.CannotConfirm", reason=error.strerror or str(error)) from error
        self._begin(trial)
        log.info("policy %s is on trial for %g s: vfagent confirm keeps it", digest, within_s)

    def _begin(self, trial: Unconfirmed) -> None:
        self._cancel()
        self._trial = trial
        self._timer = asyncio.get_running_loop().call_later(self._file.left_s(trial), self._end)

    def _end(self) -> None:
        if trial := self._trial:
            self._trial = self._timer = None
            self._leave(trial.before, _why(trial))

    def confirm(self) -> str:
        """The digest that is kept. Raises VarlinkError."""
        if self._trial is None:
            raise VarlinkError(f"{AGENT}.NothingToConfirm")
        digest = self._trial.digest
        log.info("policy %s is confirmed", digest)
        self.forget()
        return digest

    def forget(self) -> None:
        """Another policy was loaded, or this one for good."""
        self._cancel()
        self._trial = None
        self._file.forget()

    def _cancel(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def stop(self) -> None:
        """The next service goes on with it."""
        self._cancel()


def _why(trial: Unconfirmed) -> str:
    before = f"the policy before it, {trial.before.digest}," if trial.before.digest else "no policy, as before it,"
    return f"policy {trial.digest} was not confirmed: {before} is active (vfagent apply loads the files again)"
