# SPDX-License-Identifier: Apache-2.0
"""What a worker reports of its look at a PF, as it goes on."""

from collections.abc import Callable
from dataclasses import dataclass

from vfagent.model.desired import DesiredPf
from vfagent.model.inventory import Pf
from vfagent.model.memory import PfMemory
from vfagent.plan.planner import Plan
from vfagent.plan.steps import Step


@dataclass(frozen=True)
class Failure:
    """Why a step failed. `refused`: by our own guard, which protects whoever uses the VF."""

    step: str
    text: str
    hint: str | None = None
    retryable: bool = True
    refused: bool = False


@dataclass(frozen=True)
class Looked:
    """The PF as observed in a round, what the policy wants of it, and the plan."""

    round: int
    pf: Pf | None
    desired: DesiredPf | None
    plan: Plan
    awaited: bool = False  # no rule matches yet, but one may when the PF's driver and netdev are there
    began: float = 0.0  # the round, by CLOCK_MONOTONIC, which is the same in every process


@dataclass(frozen=True)
class StepStarted:
    """Told before the kernel is asked, so that a step that hangs has a name."""

    step: Step
    reason: str
    at: float  # CLOCK_MONOTONIC


@dataclass(frozen=True)
class StepEnded:
    """A step is over, one way or the other."""

    step: Step
    at: float
    failure: Failure | None = None


@dataclass(frozen=True)
class Finished:
    """The last report of a look. Without it the worker died."""

    memory: PfMemory
    failures: tuple[Failure, ...] = ()
    warnings: tuple[str, ...] = ()
    ended: float = 0.0


Report = Looked | StepStarted | StepEnded | Finished
Emit = Callable[[Report], None]
