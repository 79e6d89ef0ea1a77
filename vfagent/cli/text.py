# SPDX-License-Identifier: Apache-2.0
"""Text that several verbs print."""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

from vfagent.model.ends_by import EndsBy, GuestEndsBy
from vfagent.model.printable import printable
from vfagent.model.status import MOST_ATTEMPTS, GuestPhase, GuestStatus, PfStatus, Phase, PolicyStatus
from vfagent.model.vf_settings import TABLE, VfSettings
from vfagent.plan.steps import describe_settings

NOTHING_MATCHES = "no rule matches a PF of this host; nothing to do"
NO_POLICY = (
    "no policy file: /etc/vfagent/policy.toml is not there, nor is a drop-in: every NIC is left as it is"
    " (see vfagent.toml(5), and /usr/share/doc/vfagent/examples)"
)


def print_result(data: object) -> None:
    """Lines as they are, anything else as JSON."""
    if isinstance(data, list) and all(isinstance(line, str) for line in data):
        print("\n".join(data))
    else:
        print(json.dumps(data, indent=2))


def counted(number: int, word: str, plural: str = "") -> str:
    """`1 VF`, `2 VFs`."""
    return f"{number} {word}" if number == 1 else f"{number} {plural or f'{word}s'}"


def columns(rows: Iterable[tuple[str, ...]], indent: str = "") -> list[str]:
    """A table without lines."""
    table = [tuple(printable(cell) for cell in row) for row in rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))] if table else []
    return [
        (indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip()
        for row in table
    ]


def ranges(indices: Iterable[int]) -> str:
    """`0-2, 5`."""
    joined: list[list[int]] = []
    for index in sorted(indices):
        if joined and joined[-1][1] == index - 1:
            joined[-1][1] = index
        else:
            joined.append([index, index])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in joined)


def describe_differing_settings(settings: VfSettings | None) -> str:
    """The settings of a VF that are not the kernel's defaults."""
    if settings is None:
        return ""
    same = (name for name, row in TABLE.items() if getattr(settings, name) == row.new)
    return describe_settings(replace(settings, **dict.fromkeys(same)))


def attempts(pf: PfStatus) -> str | None:
    """How often the PF failed, and whether it is retried. A problem of the policy has no attempts."""
    if not (pf.failures and pf.attempts) or pf.problems:
        return None
    match pf.phase:
        case Phase.CONVERGING:
            return f"attempt {pf.attempts} of {MOST_ATTEMPTS} failed; retrying"
        case Phase.FAILED:
            return f"suspended after {counted(pf.attempts, 'attempt')}; a reload retries"
        case _:
            return None


def until(status: PfStatus | GuestStatus) -> str | None:
    """What ends the phase of a PF or guest, and when it is tried all the same. No word about steps that run."""
    if status.until is None or status.until in (EndsBy.STEPS, GuestEndsBy.JOB):
        return None
    at = time.strftime(", at the latest %H:%M:%S", time.localtime(status.until_at)) if status.until_at else ""
    return f"{status.until}{at}"


def on_trial(policy: PolicyStatus) -> Iterator[str]:
    """A line, if it must be confirmed."""
    if policy.trial_ends_at is not None:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(policy.trial_ends_at))
        yield f"on trial until {at}: then the policy before it is active again (vfagent confirm keeps this one)"


def _detail(guest: GuestStatus) -> str | None:
    waits = until(guest) if guest.phase is GuestPhase.WAITING else None
    return "; until ".join(text for text in (guest.detail, waits) if text)


def one_guest_lines(guest: GuestStatus) -> list[str]:
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(guest.started_at)) if guest.started_at else ""
    starts = f"{guest.starts}, {guest.start_failures} of them failed" if guest.start_failures else str(guest.starts)
    restarts = f"; {guest.restarts} restarts by systemd" if guest.restarts else ""
    rows = (
        ("guest", guest.name),
        ("phase", guest.phase),
        ("why", guest.detail or ""),
        ("until", until(guest) or ""),
        ("VFs", " ".join(guest.vfs)),
        ("boots by", guest.loader or ""),
        ("unit", guest.unit),
        ("process", str(guest.pid or "")),
        ("started", started),
        ("starts", f"{starts}{restarts}"),
        ("rule", "an older one: stop and start it to apply the new one" if guest.outdated else ""),
    )
    return columns(row for row in rows if row[1])


def guest_lines(guests: Iterable[GuestStatus]) -> list[str]:
    return columns(
        (
            guest.name,
            guest.phase,
            " ".join(guest.vfs),
            guest.loader or "",
            f"pid {guest.pid}" if guest.pid else "",
            _detail(guest)
            or ("runs with an older rule: stop and start it to apply the new one" if guest.outdated else ""),
        )
        for guest in guests
    )
