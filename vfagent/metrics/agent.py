# SPDX-License-Identifier: Apache-2.0
"""The agent: what it did since it started, and how long that took."""

from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from vfagent.metrics.families import Samples, counter, gauge, histogram
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


def collect(view: View) -> Iterator[Metric]:
    samples, counters, status = Samples(FAMILIES), view.counters, view.status
    samples.add(BUILD, 1, status.version)
    samples.add(START, counters.started_at)
    samples.add(READY, status.ready)
    samples.add(BOOT_TO_READY, counters.boot_to_ready_s)
    samples.add(STUCK, sum(pf.phase is Phase.STUCK for pf in status.pfs))
    samples.add(BRIDGE_PROBLEMS, len(status.bridges))
    for family, count in ((ROUNDS, counters.rounds), (UEVENTS, counters.uevents), (LINK_EVENTS, counters.link_events)):
        samples.add(family, count)
    samples.add(COALESCED, counters.coalesced)
    _add_labelled_counts(samples, view)
    samples.add_histogram(RECONCILE_S, counters.reconciles)
    samples.add_histogram(ROUND_S, counters.round_s)
    for step, durations in counters.steps.items():
        samples.add_histogram(STEP_S, durations, step)
    samples.add_histogram(CONVERGENCE_S, counters.convergences)
    return samples.metrics()


def _add_labelled_counts(samples: Samples, view: View) -> None:
    counters = view.counters
    for step, durations in counters.steps.items():
        samples.add(STEPS, durations.count, step)
        samples.add(STEP_FAILURES, counters.step_failures[step], step)
    for attribute, count in counters.drifts.items():
        samples.add(DRIFT, count, attribute)
    for source, count in counters.overflows.items():
        samples.add(OVERFLOWS, count, source)
