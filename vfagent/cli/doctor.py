# SPDX-License-Identifier: Apache-2.0
"""The verb `doctor`: what on this host stands in the way, and what to do about it."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from vfagent.cli.text import printable
from vfagent.doctor.checks.finding import Diagnosis, Finding, Severity, Unseen
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
    lines += [printable(f"not seen: {one.object}: {one.why}") for one in _grouped(found.unseen)]
    return [*lines, _summary(found)]


def _finding(finding: Finding) -> Iterator[str]:
    yield printable(f"{finding.severity}: {finding.object}: {finding.found}")
    yield printable(f"  therefore: {finding.follows}")
    yield printable(f"  to do: {finding.advice}")


def _grouped(unseen: tuple[Unseen, ...]) -> Iterator[Unseen]:
    """One line for each reason."""
    for why in dict.fromkeys(one.why for one in unseen):
        yield Unseen(", ".join(one.object for one in unseen if one.why == why), why)


def _summary(found: Diagnosis) -> str:
    counts = Counter(one.severity for one in found.findings)
    said = [f"{counts[kind]} {kind}{'s' if counts[kind] > 1 else ''}" for kind in Severity if counts[kind]]
    verdict = "nothing stands in the way" if found.healthy else "mend them in this order"
    partly = "; as root it would see more" if found.unseen and os.geteuid() != 0 else ""
    return f"{', '.join(said)}: {verdict}{partly}" if said else f"{verdict}{partly}"
