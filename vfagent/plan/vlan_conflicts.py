# SPDX-License-Identifier: Apache-2.0
"""The plans of several PFs side by side: what one of them makes is no more to be made for the next. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from vfagent.plan.network import Chain, taken_by_another
from vfagent.plan.planner import Plan
from vfagent.plan.steps import CreateVlan


def one_after_the_other(plans: Iterable[Plan]) -> Iterator[Plan]:
    """Each PF is looked at alone, and finds none of the VLAN devices that are still to be made for another."""
    made = set[str]()
    for plan in plans:
        rivals = {name: chain for chain in plan.apart for name in _made_by(chain) & made}
        made |= {name for chain in plan.apart for name in _made_by(chain)}
        apart = tuple(chain for chain in plan.apart if chain not in rivals.values())
        yield replace(plan, apart=apart, problems=plan.problems + tuple(map(taken_by_another, rivals)))


def _made_by(chain: Chain) -> set[str]:
    return {planned.step.name for planned in chain if isinstance(planned.step, CreateVlan)}
