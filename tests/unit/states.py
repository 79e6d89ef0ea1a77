# SPDX-License-Identifier: Apache-2.0
"""The state of a PF, from the facts that a test is about."""

from dataclasses import replace
from typing import Any

from vfagent.model.desired import DesiredPf
from vfagent.model.inventory import Pf
from vfagent.model.pci import PciAddress
from vfagent.plan.planner import Plan
from vfagent.reconcile.pf_state import PfState, Progress, Retries
from vfagent.reconcile.reports import Observed

NOTHING_TO_DO = Plan()
_RETRIES = ("failures", "attempts", "suspended")
_PROGRESS = ("running", "timeline")


def pf_state(
    address: PciAddress,
    pf: Pf | None = None,
    desired: DesiredPf | None = None,
    plan: Plan = NOTHING_TO_DO,
    *,
    known: bool = True,
    rule_pending: bool = False,
    **facts: Any,
) -> PfState:
    """`facts`: fields of PfState, Retries or Progress."""
    observed = Observed(int(known), pf, desired, plan, rule_pending=rule_pending)
    retries = Retries(**{name: facts.pop(name) for name in _RETRIES if name in facts})
    progress = Progress(**{name: facts.pop(name) for name in _PROGRESS if name in facts})
    return PfState(address, observed=observed, retries=retries, progress=progress, **facts)


def observe(state: PfState, **facts: Any) -> None:
    """As if the last observation had shown these facts."""
    state.observed = replace(state.observed, **facts)
