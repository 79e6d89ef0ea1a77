# SPDX-License-Identifier: Apache-2.0
"""The parts of one convergence of vfagent: steps in the kernel, and CPU time of vfagent and of the kernel."""

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.contestants import PF
from tests.lab.vm import VM

PROCESSORS = 2  # of the VM


@dataclass(frozen=True)
class Shares:
    """Seconds. Steps run in parallel: `in_steps` is the time in which at least one of them was running."""

    whole: float
    before_first: float
    in_steps: float
    user_cpu: float
    system_cpu: float
    idle: float


def shares(vm: VM, record: dict[str, Any]) -> Shares:
    """Of the convergence that the recorder has just recorded."""
    cpu = record["cpu"]
    began, took = float(str(record["announced"])), float(str(record["from_udev_s"]))
    pfs = json.loads(vm.run("vfagent status --json", check=False).stdout)["pfs"]
    steps = next(pf["timeline"] for pf in pfs if pf["address"] == PF)
    spans = sorted((step["started"] - began, (step["ended"] or step["started"]) - began) for step in steps)
    return Shares(took, spans[0][0], _covered(spans, took), cpu["user"], cpu["system"], cpu["idle"] / PROCESSORS)


def _covered(spans: Sequence[tuple[float, float]], until: float) -> float:
    total, reached = 0.0, 0.0
    for start, end in spans:
        total += max(0.0, min(end, until) - max(start, reached))
        reached = max(reached, end)
    return total


def report(convergences: Sequence[Shares]) -> Iterator[str]:
    def middle(name: str) -> float:
        return statistics.median(float(getattr(part, name)) / part.whole for part in convergences)

    yield "One convergence of vfagent, as shares of its time (medians):"
    yield f"  event to first step: observation and plan   {middle('before_first'):4.0%}"
    yield f"  at least one step running in the kernel     {middle('in_steps'):4.0%}"
    yield f"  CPU time of Python                          {middle('user_cpu'):4.0%}"
    yield f"  CPU time of the kernel for vfagent          {middle('system_cpu'):4.0%}"
    yield f"  idle, of the VM's two CPUs                  {middle('idle'):4.0%}"
