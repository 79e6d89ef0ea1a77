# SPDX-License-Identifier: Apache-2.0
"""`vfagent doctor`: problems of this host, and how to fix them."""

import argparse
import os
from collections import Counter
from collections.abc import Iterator

from vfagent.cli.outputs import Doctor, print_json
from vfagent.cli.text import counted
from vfagent.doctor.checks.finding import Diagnosis, Finding, NotChecked, Severity
from vfagent.doctor.checks.registry import diagnose
from vfagent.doctor.gather import gather_facts
from vfagent.exit_status import Exit
from vfagent.model.printable import printable


def doctor(args: argparse.Namespace) -> int:
    diagnosis = diagnose(gather_facts(args.root))
    if args.json:
        print_json(Doctor(diagnosis.healthy, diagnosis.findings, diagnosis.not_checked))
    else:
        print("\n".join(diagnosis_lines(diagnosis)))
    return Exit.OK if diagnosis.healthy else Exit.ERROR


def diagnosis_lines(diagnosis: Diagnosis) -> list[str]:
    lines = [line for finding in diagnosis.findings for line in _finding_lines(finding)]
    lines += [
        printable(f"not checked: {entry.object}: {entry.reason}") for entry in _group_by_reason(diagnosis.not_checked)
    ]
    return [*lines, _summary(diagnosis)]


def _finding_lines(finding: Finding) -> Iterator[str]:
    yield printable(f"{finding.severity}: {finding.object}: {finding.observed}")
    yield printable(f"  therefore: {finding.consequence}")
    yield printable(f"  to do: {finding.advice}")


def _group_by_reason(not_checked: tuple[NotChecked, ...]) -> Iterator[NotChecked]:
    objects = dict[str, list[str]]()
    for item in not_checked:
        objects.setdefault(item.reason, []).append(item.object)
    yield from (NotChecked(", ".join(names), reason) for reason, names in objects.items())


def _summary(diagnosis: Diagnosis) -> str:
    numbers = Counter(finding.severity for finding in diagnosis.findings)
    counts = [counted(numbers[kind], kind) for kind in Severity if numbers[kind]]
    verdict = "no errors" if diagnosis.healthy else "fix them in this order"
    not_root = "; root can check more" if diagnosis.not_checked and os.geteuid() != 0 else ""
    return f"{', '.join(counts)}: {verdict}{not_root}" if counts else f"{verdict}{not_root}"
