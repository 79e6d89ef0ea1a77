# SPDX-License-Identifier: Apache-2.0
"""What a worker reports while it reconciles a PF."""

from collections.abc import Callable

from vfagent.frozen import frozen
from vfagent.model.desired import DesiredPf
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Pf
from vfagent.model.numvfs_lock import KernelBusy
from vfagent.plan.planner import Plan
from vfagent.plan.steps import Step


@frozen
class Failure:
    """Why a step failed. `step` is its kind, `refused`: by our own guard, which protects the user of a VF.

    `busy`: it was not tried, as the kernel hangs in a step of another PF.
    """

    step: str
    text: str
    hint: str | None = None
    retryable: bool = True
    refused: bool = False
    busy: KernelBusy | None = None


@frozen
class Observed:
    """The PF as observed in a round, what the policy wants of it, and the plan. Round 0: it was not observed yet."""

    round: int
    pf: Pf | None
    desired: DesiredPf | None
    plan: Plan
    rule_pending: bool = False  # no rule matches yet, but one may when the PF's driver and netdev are there
    began: float = 0.0  # the round, by CLOCK_MONOTONIC, which is the same in every process
    ifindexes: frozenset[int] = frozenset()  # the netdevs whose changes concern the PF


@frozen
class Waits:
    """The worker waits until the kernel can do the next step. Repeated, as a sign of life."""

    busy: KernelBusy


@frozen
class StepStarted:
    """Reported before the kernel is asked, so that a step that hangs has a name."""

    step: Step
    reason: str
    at: float  # CLOCK_MONOTONIC


@frozen
class StepEnded:
    """A step has ended, well or not."""

    step: Step
    at: float
    failure: Failure | None = None


@frozen
class Finished:
    """The last report of a reconcile. Without it the worker died."""

    driver_state: DriverState
    failures: tuple[Failure, ...] = ()
    warnings: tuple[str, ...] = ()
    ended: float = 0.0


Report = Observed | Waits | StepStarted | StepEnded | Finished
Emit = Callable[[Report], None]
