# SPDX-License-Identifier: Apache-2.0
"""The plans of several PFs side by side: what one of them makes is no more to be made for the next. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from vfagent.plan.network import ParallelGroup, on_another_pf
from vfagent.plan.planner import Plan
from vfagent.plan.steps import CreateVlan
from vfagent.plan.vf import Problem


def without_conflicts(plans: Iterable[Plan]) -> Iterator[Plan]:
    """Each PF is looked at alone, and finds none of the VLAN devices that are still to be made for another."""
    made = set[str]()
    for plan in plans:
        conflicts = {name: group for group in plan.independent for name in _made_by(group) & made}
        made |= {name for group in plan.independent for name in _made_by(group)}
        independent = tuple(group for group in plan.independent if group not in conflicts.values())
        yield replace(
            plan,
            independent=independent,
            problems=plan.problems + tuple(Problem(on_another_pf(name)) for name in conflicts),
        )


def _made_by(group: ParallelGroup) -> set[str]:
    return {planned.step.name for planned in group if isinstance(planned.step, CreateVlan)}
