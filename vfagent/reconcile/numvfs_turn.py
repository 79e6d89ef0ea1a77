# SPDX-License-Identifier: Apache-2.0
"""A PF's turn to write `sriov_numvfs`, on kernels that do it for one card at a time (vfagent/model/numvfs_lock.py).

The turn is waited for before the step begins, so that the time is not the step's. It lasts from the removal of the
present VFs to the creation of the wanted ones.
"""

import contextlib
import time
from collections.abc import Iterator

from vfagent.errors import VfagentError
from vfagent.kernel.protocols import Host, NumvfsToken
from vfagent.model.numvfs_lock import KernelBusy, NumvfsOwner
from vfagent.plan.steps import SetNumvfs
from vfagent.reconcile.reports import Emit, Failure, Report, StepEnded, StepStarted, Waits

_CHECK_S = 1.0  # how often to see who has it
_SIGN_OF_LIFE_S = 10.0  # a worker that is silent for longer than a step may take is ended
_UNKNOWN_S = 120.0  # after that an owner that has left no name counts as hanging
_LATE_S = 5.0  # after a step's deadline, for its worker to be ended
HINT = "end the guest that has one of its VFs open; vfagent status shows who"


class NumvfsTurn:
    """The turn of one PF. `steps`: its writes of sriov_numvfs, at least one."""

    def __init__(self, token: NumvfsToken, steps: tuple[SetNumvfs, ...], emit: Emit) -> None:
        self._token, self._steps, self._emit = token, steps, emit
        self._since = 0.0

    def begin(self) -> bool:
        """False where another PF has it."""
        return self._taken(0.0)

    def wait(self) -> Failure | None:
        """Wait, and report for whom. The failure says that the other's write hangs: it may be hours."""
        began, reported, reported_at = time.monotonic(), None, 0.0
        while not self._taken(_CHECK_S):
            now = time.monotonic()
            busy = _busy(self._token.owner(), now, now - began)
            if busy.hangs:
                self._token.free()
                return self._failure(busy)
            if busy != reported or now - reported_at > _SIGN_OF_LIFE_S:
                self._emit(Waits(busy))
                reported, reported_at = busy, now
        return None

    def emit(self, report: Report) -> None:
        """Pass on a report of the PF's steps. The turn ends with the last write of sriov_numvfs."""
        match report:
            case StepStarted():
                self._write(report.at + report.step.deadline_s)
            case StepEnded() if report.step == self._steps[-1]:
                self.end()
        self._emit(report)

    def end(self) -> None:
        self._token.free()

    def _taken(self, within_s: float) -> bool:
        if not self._token.take(within_s):
            return False
        self._since = time.time()
        self._write(time.monotonic() + self._steps[0].deadline_s)
        return True

    def _write(self, until: float) -> None:
        self._token.write(NumvfsOwner(self._steps[0].pf, self._since, until + _LATE_S))

    def _failure(self, busy: KernelBusy) -> Failure:
        step = self._steps[0]
        return Failure(step.KIND, f"{step.pf}: cannot {step.describe()}: {busy.text}", HINT, busy=busy)


def _busy(owner: NumvfsOwner | None, now: float, waited_s: float) -> KernelBusy:
    if owner is None:
        return KernelBusy("the kernel is busy with another PF", hangs=waited_s > _UNKNOWN_S)
    text = f"the kernel is busy with PF {owner.pf}"
    if now <= owner.until:
        return KernelBusy(text, hangs=False)
    since = time.strftime("%H:%M:%S", time.localtime(owner.since))
    return KernelBusy(f"{text} since {since} and does not return from it", hangs=True)


@contextlib.contextmanager
def numvfs_turn(host: Host, step: SetNumvfs, emit: Emit) -> Iterator[None]:
    """For a single write. Raises VfagentError where another PF's write hangs."""
    if host.numvfs is None:
        yield
        return
    turn = NumvfsTurn(host.numvfs, (step,), emit)
    if failure := turn.wait():
        raise VfagentError(failure.text, hint=failure.hint)
    try:
        yield
    finally:
        turn.end()
