# SPDX-License-Identifier: Apache-2.0
"""VFs without the isolation that the policy asks for: the plan's problems, and what their users block."""

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
            more = f"; and {len(texts) - _MOST_TEXTS} more" if len(texts) > _MOST_TEXTS else ""
            yield Finding(
                "not-isolated",
                Severity.ERROR,
                pf_facts.pf.name,
                "; ".join(texts[:_MOST_TEXTS]) + more,
                "a guest there is in another network, or may do more, than the policy says: none is started on them",
                f"refused: `optional` in rule {desired.rule!r} lets guests start without; in use: stop the VF's user",
            )
