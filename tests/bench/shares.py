# SPDX-License-Identifier: Apache-2.0
"""What one convergence of vfagent is made of: steps in the kernel, and processor time of its own and of the kernel."""

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
    """Seconds. Steps run side by side: `in_steps` is the time in which at least one of them was at work."""

    whole: float
    before_first: float
    in_steps: float
    user_cpu: float
    system_cpu: float
    idle: float


def shares(vm: VM, found: dict[str, Any]) -> Shares:
    """Of the convergence that the recorder has just `found`."""
    cpu = found["cpu"]
    began, took = float(str(found["announced"])), float(str(found["from_udev_s"]))
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


def report(found: Sequence[Shares]) -> Iterator[str]:
    def middle(name: str) -> float:
        return statistics.median(float(getattr(one, name)) / one.whole for one in found)

    yield "One convergence of vfagent, as shares of its time (medians):"
    yield f"  event, look and plan until the first step   {middle('before_first'):4.0%}"
    yield f"  at least one step at work in the kernel     {middle('in_steps'):4.0%}"
    yield f"  processor time of Python                    {middle('user_cpu'):4.0%}"
    yield f"  processor time of the kernel for it         {middle('system_cpu'):4.0%}"
    yield f"  the machine's two processors idle            {middle('idle'):4.0%}"
