# SPDX-License-Identifier: Apache-2.0
"""Counters and durations since the start of the agent.

Their size depends on the number of step kinds only.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate

from vfagent.plan.attributes import ATTRIBUTES
from vfagent.plan.steps import KINDS, Step

STEP_BOUNDS_S = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
RECONCILE_BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
BOOT_S = 300.0  # an agent that starts later than this was not started by the boot
CONVERGENCE_BOUNDS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class Histogram:
    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        self.bounds_s = bounds_s
        self.sum_s = 0.0
        self._counts = [0] * (len(bounds_s) + 1)

    def observe(self, seconds: float) -> None:
        self.sum_s += seconds
        self._counts[bisect_left(self.bounds_s, seconds)] += 1

    @property
    def count(self) -> int:
        return sum(self._counts)

    def cumulative(self) -> Iterator[tuple[str, int]]:
        """Each upper bound, the last one `+Inf`, with the number of values up to it."""
        return zip((*map(str, self.bounds_s), "+Inf"), accumulate(self._counts), strict=True)


class Counters:
    def __init__(self) -> None:
        self.started_at = time.time()
        self.rounds = self.uevents = self.link_events = self.coalesced = 0
        self.overflows = dict.fromkeys(("udev", "rtnetlink"), 0)
        self.steps = {name: Histogram(STEP_BOUNDS_S) for name in KINDS}
        self.step_failures = dict.fromkeys(KINDS, 0)
        self.drifts = Counter(dict.fromkeys(ATTRIBUTES, 0))
        self.reconciles = Histogram(RECONCILE_BOUNDS_S)
        self.round_s = Histogram(RECONCILE_BOUNDS_S)
        self.convergences = Histogram(CONVERGENCE_BOUNDS_S)
        self.boot_to_ready_s: float | None = None

    def ready_after(self, waited_s: float) -> None:
        """Time since the start of the kernel, if the boot started the agent. `waited_s`: since the agent's start."""
        uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.boot_to_ready_s = uptime if uptime - waited_s < BOOT_S else None

    def asked(self, *, again: bool) -> None:
        """A request to reconcile a PF; `again`: one was already pending."""
        self.coalesced += again

    def step_ended(self, step: Step, seconds: float, *, failed: bool) -> None:
        self.steps[step.KIND].observe(seconds)
        self.step_failures[step.KIND] += failed

    def drifted(self, steps: Iterable[Step]) -> None:
        self.drifts.update(name for step in steps for name in step.changes)

    def overflowed(self, source: str) -> None:
        self.overflows[source] += 1
