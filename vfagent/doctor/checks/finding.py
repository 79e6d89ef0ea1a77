# SPDX-License-Identifier: Apache-2.0
"""The result of `doctor`: findings, and what it could not check."""

from enum import StrEnum

from vfagent.frozen import frozen


class Severity(StrEnum):
    ERROR = "error"  # blocks this policy
    WARNING = "warning"  # works today but may break, or would block another policy
    NOTE = "note"  # information


@frozen(slots=True)
class Finding:
    """`check` is an identifier for programs. The rest is for people."""

    check: str
    severity: Severity
    object: str
    observed: str
    consequence: str
    advice: str


@frozen(slots=True)
class NotChecked:
    """Something that `doctor` could not read or ask about."""

    object: str
    reason: str


@frozen(slots=True)
class Diagnosis:
    """Findings in the order in which to fix them."""

    findings: tuple[Finding, ...]
    not_checked: tuple[NotChecked, ...] = ()

    @property
    def healthy(self) -> bool:
        return not any(finding.severity is Severity.ERROR for finding in self.findings)
