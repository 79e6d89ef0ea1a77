# SPDX-License-Identifier: Apache-2.0
"""What the log says of a PF's reconciles, and the failures of a worker that did not report an end of its own."""

import logging
from collections.abc import Iterable

from vfagent.model.inventory import Pf
from vfagent.model.numvfs_lock import KernelBusy
from vfagent.plan.attributes import vf_index
from vfagent.plan.network_steps import AddFdb, RemoveFdb
from vfagent.plan.steps import ConfigureVf, Step
from vfagent.plan.vf import Deferred, Planned
from vfagent.process.worker import NoAnswerError
from vfagent.reconcile.pf_state import EndedStep, PfState
from vfagent.reconcile.reports import Failure, Observed
from vfagent.systemd.log import ObjectLog, for_pf
from vfagent.systemd.messages import Message

log = logging.getLogger(__name__)

RECONCILE = "reconcile"  # a failure of no step in particular


def pf_log(state: PfState, *, vf: int | None = None, step: str | None = None) -> ObjectLog:
    """The log of this PF: `PF 0000:3b:00.0 (ens1): …`."""
    return for_pf(log, state.address, name=state.pf.name if state.pf else None, vf=vf, step=step)


def _step_log(state: PfState, step: Step) -> ObjectLog:
    return pf_log(state, vf=vf_index(step), step=step.KIND)


def no_answer(state: PfState) -> Failure:
    """The worker was silent for longer than the deadline of its steps."""
    running = [started.step for started in state.progress.running.values()]
    steps = ", ".join(step.describe() for step in running) or "observe"
    text = f"{state.address}: cannot {steps}: no answer from the kernel within {state.silence_s():.0f} s"
    hint = "usually a guest still has a VF open, of this card or another; see journalctl -k"
    return Failure(running[0].KIND if running else RECONCILE, text, hint=hint)


def worker_died(state: PfState, error: NoAnswerError) -> Failure:
    return Failure(RECONCILE, f"{state.address}: reconcile failed: {error}")


def no_worker(state: PfState, error: OSError) -> Failure:
    text = f"{state.address}: reconcile failed: cannot start a worker: {error.strerror}"
    return Failure(RECONCILE, text, hint="ulimit -u, or TasksMax= of the service: systemctl status vfagent")


def reverted(state: PfState, step: Step) -> Failure:
    text = f"{state.address}: '{step.describe()}' was done ten times in a minute and reverted each time"
    return Failure(step.KIND, text, hint="another program changes it back; vfagent doctor knows some that do")


def drift(state: PfState, observed: Observed) -> tuple[Planned | Deferred, ...]:
    """How a converged PF now differs from an unchanged policy, less what was known before."""
    if observed.round != 1 or observed.desired is None or observed.desired != state.converged_as:
        return ()
    known = (*state.plan.steps, *state.plan.deferred)
    items: tuple[Planned | Deferred, ...] = (*observed.plan.steps, *observed.plan.deferred)
    changed = (item for item in items if item not in known and not _follows_bridge(item.step, state))
    return tuple(item for item in changed if not _as_before(item.step, state.pf, observed.pf))


def _follows_bridge(step: Step, state: PfState) -> bool:
    """Guests join and leave a bridge: that the card's FDB follows is no drift."""
    return isinstance(step, RemoveFdb) or (isinstance(step, AddFdb) and step.mac not in state.driver_state.fdb)


def _as_before(step: Step, before: Pf | None, now: Pf | None) -> bool:
    """Whether nobody has changed what the step sets: a refusal was forgotten, and is tried again."""
    if not isinstance(step, ConfigureVf) or before is None or now is None:
        return False
    old, new = (next((vf.settings for vf in pf.vfs if vf.index == step.index), None) for pf in (before, now))
    return (
        old is not None and new is not None and all(getattr(old, name) == getattr(new, name) for name in step.changes)
    )


def log_observed(state: PfState, observed: Observed) -> None:
    """Log once what is new: drift, deferred steps, problems, notes, and what the PF waits for."""
    pf = pf_log(state)
    if state.pf is not None and observed.pf is None:
        pf.info("gone")
    for item in drift(state, observed):
        step_log = _step_log(state, item.step).of(Message.DRIFT)
        step_log.warning("drift: %s, wanted: %s", item.reason, item.step.describe())
    for deferred in observed.plan.deferred:
        if deferred not in state.plan.deferred:
            step_log = _step_log(state, deferred.step).of(Message.DEFERRED)
            step_log.warning("deferred: %s: %s", deferred.step.describe(), deferred.blocker)
    for problem in observed.plan.problems:
        if problem not in state.plan.problems:
            pf_log(state, vf=problem.vf).of(Message.PROBLEM).error("%s", problem.text)
    for note in (*observed.plan.notes, *observed.plan.waiting):
        if note not in (*state.plan.notes, *state.plan.waiting):
            pf.info("%s", note)


def log_waits(state: PfState, busy: KernelBusy) -> None:
    """Log once for whom it waits; loudly where that may be for hours."""
    if state.kernel_busy != busy:
        pf_log(state).log(logging.WARNING if busy.hangs else logging.INFO, "waiting: %s", busy.text)


def log_steps(state: PfState, steps: Iterable[EndedStep]) -> None:
    """Log what was done and how long it took. Failures are logged where they are counted."""
    for ended in steps:
        if ended.failed is None:
            took_s = ended.ended - ended.started
            _step_log(state, ended.step).info("%s: %.2f s", ended.step.describe(), took_s)
