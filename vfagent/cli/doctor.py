# SPDX-License-Identifier: Apache-2.0
"""`vfagent doctor`: problems of this host, and how to fix them."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from vfagent.cli.text import printable
from vfagent.doctor.checks.finding import Diagnosis, Finding, NotChecked, Severity
from vfagent.doctor.checks.registry import diagnose
from vfagent.doctor.gather import gather_facts
from vfagent.exit_status import Exit
from vfagent.model.codec import encode


def doctor(root: Path, *, as_json: bool) -> int:
    found = diagnose(gather_facts(root))
    print(json.dumps(encode(found), indent=2) if as_json else "\n".join(diagnosis_lines(found)))
    return Exit.OK if found.healthy else Exit.ERROR


def diagnosis_lines(found: Diagnosis) -> list[str]:
    lines = [line for finding in found.findings for line in _finding(finding)]
    lines += [printable(f"not checked: {entry.object}: {entry.reason}") for entry in _grouped(found.not_checked)]
    return [*lines, _summary(found)]


def _finding(finding: Finding) -> Iterator[str]:
    yield printable(f"{finding.severity}: {finding.object}: {finding.observed}")
    yield printable(f"  therefore: {finding.consequence}")
    yield printable(f"  to do: {finding.advice}")


def _grouped(not_checked: tuple[NotChecked, ...]) -> Iterator[NotChecked]:
    """One line for each reason."""
    for reason in dict.fromkeys(entry.reason for entry in not_checked):
        yield NotChecked(", ".join(entry.object for entry in not_checked if entry.reason == reason), reason)


def _summary(found: Diagnosis) -> str:
    counts = Counter(one.severity for one in found.findings)
    said = [f"{counts[kind]} {kind}{'s' if counts[kind] > 1 else ''}" for kind in Severity if counts[kind]]
    verdict = "no errors" if found.healthy else "fix them in this order"
    partly = "; root can check more" if found.not_checked and os.geteuid() != 0 else ""
    return f"{', '.join(said)}: {verdict}{partly}" if said else f"{verdict}{partly}"
