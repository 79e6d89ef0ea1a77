# SPDX-License-Identifier: Apache-2.0
"""Two PFs whose plans create the same VLAN interface: the first creates it, the second has a problem. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from vfagent.plan.network import on_another_pf
from vfagent.plan.network_steps import CreateVlan
from vfagent.plan.planner import Plan
from vfagent.plan.vf import ParallelGroup, Problem


def without_conflicts(plans: Iterable[Plan]) -> Iterator[Plan]:
    """Each PF is planned by itself, so its plan does not know what the plans of other PFs create."""
    created = set[str]()
    for plan in plans:
        conflicts = {name: group for group in plan.independent for name in _created_by(group) & created}
        created |= {name for group in plan.independent for name in _created_by(group)}
        independent = tuple(group for group in plan.independent if group not in conflicts.values())
        yield replace(
            plan,
            independent=independent,
            problems=plan.problems + tuple(Problem(on_another_pf(name)) for name in conflicts),
        )


def _created_by(group: ParallelGroup) -> set[str]:
    return {planned.step.name for planned in group if isinstance(planned.step, CreateVlan)}
