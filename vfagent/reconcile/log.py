# SPDX-License-Identifier: Apache-2.0
"""What the log says of looks, and what is said of a look that did not end."""

import logging

from vfagent.plan.steps import AddFdb, RemoveFdb, Step
from vfagent.plan.vf import Deferred, Planned
from vfagent.reconcile.pf_state import PfState
from vfagent.reconcile.reports import Failure, Observed

log = logging.getLogger(__name__)


def name_of(state: PfState) -> str:
    return state.pf.name if state.pf else state.address


def stuck(state: PfState) -> Failure:
    steps = ", ".join(step.describe() for step in state.running) or "observe"
    text = f"{state.address}: cannot {steps}: no answer from the kernel within {state.deadline_s:.0f} s"
    return Failure(steps, text, hint="a guest that does not let go of a VF is the usual reason; see journalctl -k")


def died(state: PfState, status: int) -> Failure:
    return Failure("look", f"{state.address}: cannot look at it: the worker ended with status {status}")


def not_begun(state: PfState, error: OSError) -> Failure:
    text = f"{name_of(state)}: cannot begin a look: no process for it: {error.strerror}"
    return Failure("look", text, hint="ulimit -u, or TasksMax= of the service: systemctl status vfagent")


def reverted(state: PfState, text: str) -> Failure:
    logged = (
        f"{name_of(state)}: cannot keep to the policy: '{text}' was done ten times in a minute, and undone each time"
    )
    return Failure(text, logged, hint="another program changes it back; vfagent doctor knows some that do")


def drift(state: PfState, looked: Observed) -> tuple[Planned | Deferred, ...]:
    """What a converged PF differs in now, under an unchanged policy, and was not known to."""
    if looked.round != 1 or looked.desired is None or looked.desired != state.converged_as:
        return ()
    known = (*state.plan.steps, *state.plan.deferred)
    found: tuple[Planned | Deferred, ...] = (*looked.plan.steps, *looked.plan.deferred)
    return tuple(item for item in found if item not in known and not _follows(item.step, state))


def _follows(step: Step, state: PfState) -> bool:
    """Guests come to a bridge and leave it: that the card's table follows them is no drift."""
    return isinstance(step, RemoveFdb) or (isinstance(step, AddFdb) and step.mac not in state.driver_state.fdb)


def log_observation(state: PfState, looked: Observed) -> None:
    """Say once what is new: drift, deferred changes, what is waited for, problems and notes."""
    name = looked.pf.name if looked.pf else state.address
    fields = {"VFAGENT_PF": state.address, "VFAGENT_ROUND": str(looked.round)}
    for item in drift(state, looked):
        log.warning("pf %s: drift: %s, wanted: %s", name, item.reason, item.step.describe(), extra=fields)
    for late in looked.plan.deferred:
        if late not in state.plan.deferred:
            log.warning("pf %s: deferred: %s: %s", name, late.step.describe(), late.blocker, extra=fields)
    for problem in looked.plan.problems:
        if problem not in state.plan.problems:
            log.error("pf %s: %s", name, problem, extra=fields)
    for note in (*looked.plan.notes, *looked.plan.waiting):
        if note not in (*state.plan.notes, *state.plan.waiting):
            log.info("pf %s: %s", name, note, extra=fields)


def log_steps(state: PfState) -> None:
    """What was done and how long it took; failures are told where they are counted."""
    for step in state.timeline[state.logged :]:
        if step.failed is None and step.ended is not None:
            took = step.ended - step.started
            log.info("pf %s: %s: %.2f s", state.address, step.text, took, extra={"VFAGENT_PF": state.address})
    state.logged = len(state.timeline)
