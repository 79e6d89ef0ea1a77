# SPDX-License-Identifier: Apache-2.0
"""The agent: what it did since it started, and how long that took."""

from vfagent.metrics.client import Metric
from vfagent.metrics.families import Sheet, counter, gauge, histogram
from vfagent.metrics.view import View
from vfagent.model.status import Phase

BUILD = gauge("build_info", "The version of the agent that runs.", "version")
START = gauge("start_time_seconds", "When the agent started, in seconds since 1970.")
READY = gauge("ready", "Whether each PF that was present at the start has converged, or was reported as failed.")
BOOT_TO_READY = gauge(
    "boot_to_ready_seconds",
    "Time from the start of the kernel until the agent was ready; absent if the agent was not started by the boot.",
)
STUCK = gauge("stuck_workers", "Workers that hang in the kernel and do not end on SIGKILL.")
BRIDGE_PROBLEMS = gauge("bridge_problems", "Problems that keep the policy's bridges from being configured.")
ROUNDS = counter("rounds", "Rounds of observing, planning and executing.")
STEPS = counter("steps", "Steps executed, successful or not.", "step")
STEP_FAILURES = counter("step_failures", "Steps that failed.", "step")
DRIFT = counter("drift", "Differences found on a converged PF or its VFs without a change of the policy.", "attribute")
UEVENTS = counter("uevents", "Events received from udev.")
LINK_EVENTS = counter("link_events", "Changes of netdevs and addresses received from rtnetlink.")
COALESCED = counter("coalesced_events", "Requests to reconcile a PF while one was already pending.")
OVERFLOWS = counter("monitor_overflows", "Times that events were lost; all PFs are reconciled afterwards.", "source")
RECONCILE_S = histogram("reconcile_duration_seconds", "Time to reconcile one PF: all rounds.")
ROUND_S = histogram("round_duration_seconds", "Time of one round: observe, plan and execute.")
STEP_S = histogram("step_duration_seconds", "Time to execute a step.", "step")
CONVERGENCE_S = histogram(
    "convergence_duration_seconds", "Time from the first event to a converged PF, where there were steps to execute."
)

FAMILIES = (
    BUILD,
    START,
    READY,
    BOOT_TO_READY,
    STUCK,
    BRIDGE_PROBLEMS,
    ROUNDS,
    STEPS,
    STEP_FAILURES,
    DRIFT,
    UEVENTS,
    LINK_EVENTS,
    COALESCED,
    OVERFLOWS,
    RECONCILE_S,
    ROUND_S,
    STEP_S,
    CONVERGENCE_S,
)


def collect(view: View) -> list[Metric]:
    sheet, counters, status = Sheet(FAMILIES), view.counters, view.status
    sheet.put(BUILD, 1, {"version": status.version})
    sheet.put(START, counters.started_at)
    sheet.put(READY, status.ready)
    sheet.put(BOOT_TO_READY, counters.boot_to_ready_s)
    sheet.put(STUCK, sum(pf.phase is Phase.STUCK for pf in status.pfs))
    sheet.put(BRIDGE_PROBLEMS, len(status.bridges))
    for family, count in ((ROUNDS, counters.rounds), (UEVENTS, counters.uevents), (LINK_EVENTS, counters.link_events)):
        sheet.put(family, count)
    sheet.put(COALESCED, counters.coalesced)
    _put_labelled_counts(sheet, view)
    sheet.put_histogram(RECONCILE_S, counters.reconciles)
    sheet.put_histogram(ROUND_S, counters.round_s)
    for step, durations in counters.steps.items():
        sheet.put_histogram(STEP_S, durations, {"step": step})
    sheet.put_histogram(CONVERGENCE_S, counters.convergences)
    return sheet.metrics()


def _put_labelled_counts(sheet: Sheet, view: View) -> None:
    counters = view.counters
    for step, durations in counters.steps.items():
        sheet.put(STEPS, durations.count, {"step": step})
        sheet.put(STEP_FAILURES, counters.step_failures[step], {"step": step})
    for attribute, count in counters.drifts.items():
        sheet.put(DRIFT, count, {"attribute": attribute})
    for source, count in counters.overflows.items():
        sheet.put(OVERFLOWS, count, {"source": source})
