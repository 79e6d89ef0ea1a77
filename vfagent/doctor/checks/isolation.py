# SPDX-License-Identifier: Apache-2.0
"""VFs without what the policy asks for: the plan's problems, and what their users block."""

from collections.abc import Iterator

from vfagent.doctor.checks.facts import Facts
from vfagent.doctor.checks.finding import Finding, Severity
from vfagent.plan.isolation import not_isolated

_MOST_TEXTS = 4


def vfs_not_isolated(facts: Facts) -> Iterator[Finding]:
    for pf_facts, desired in facts.managed:
        plan = pf_facts.plan
        blocked = not_isolated(desired, pf_facts.pf, (item.step for item in plan.deferred), ())
        texts = [
            *(str(problem) for problem in plan.problems if problem.lacks),
            *(f"vf{index}: {', '.join(names)} cannot be set while it is in use" for index, names in blocked.items()),
        ]
        if texts:
            yield Finding(
                "not-isolated",
                Severity.ERROR,
                pf_facts.pf.name,
                _shortened(texts),
                "a guest there is in another network, or may do more, than the policy says: none is started on them",
                f"refused: `optional` in rule {desired.rule!r} lets guests start without; in use: stop the VF's user",
            )


def vfs_as_asked_in_part(facts: Facts) -> Iterator[Finding]:
    """What concerns neither isolation nor a group: a representor that is a port already, a rate on InfiniBand."""
    for pf_facts, desired in facts.managed:
        gone = {vf.index for vf in pf_facts.pf.vfs if vf.gone}
        others = (item for item in pf_facts.plan.problems if item.vf is not None and item.vf not in gone)
        if texts := [str(problem) for problem in others if not (problem.lacks or problem.by_group)]:
            yield Finding(
                "vf-in-part",
                Severity.ERROR,
                pf_facts.pf.name,
                _shortened(texts),
                f"rule {desired.rule!r} is carried out without that",
                "change that, or the rule",
            )


def _shortened(texts: list[str]) -> str:
    more = f"; and {len(texts) - _MOST_TEXTS} more" if len(texts) > _MOST_TEXTS else ""
    return "; ".join(texts[:_MOST_TEXTS]) + more
