# SPDX-License-Identifier: Apache-2.0
"""What `doctor` says: findings, and what could not be looked at."""

from enum import StrEnum

from vfagent.frozen import frozen


class Severity(StrEnum):
    ERROR = "error"  # stands in the way of what the policy says
    WARNING = "warning"  # works, and may not stay so, or would stand in the way of a policy yet to come
    NOTE = "note"  # good to know


@frozen(slots=True)
class Finding:
    """`check` is a word for programs. The rest is for people: what was found, what follows, what to do."""

    check: str
    severity: Severity
    object: str
    found: str
    follows: str
    advice: str


@frozen(slots=True)
class Unseen:
    """What could not be asked about, so that nothing is known of it."""

    object: str
    why: str


@frozen(slots=True)
class Diagnosis:
    """Findings in the order in which to mend them."""

    findings: tuple[Finding, ...]
    unseen: tuple[Unseen, ...] = ()

    @property
    def healthy(self) -> bool:
        return not any(one.severity is Severity.ERROR for one in self.findings)
