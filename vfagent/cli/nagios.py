# SPDX-License-Identifier: Apache-2.0
"""`status --nagios`: one line and an exit status, as Nagios, Icinga and their like run plugins. Pure.

What is critical and what is a warning are the severities of packaging/monitoring/rules/vfagent.yml.
"""

from collections.abc import Iterator
from enum import IntEnum

from vfagent.cli.text import counted
from vfagent.model.printable import printable
from vfagent.model.status import GuestPhase, GuestStatus, PfStatus, Phase, Status

_PATIENCE_S = 900.0  # VfagentPfNotConverging
_SHOWN = 3


class Level(IntEnum):
    """The exit status of a plugin (monitoring-plugins.org)."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


def judge(status: Status, now: float) -> tuple[Level, str]:
    """With the worst first, and counts for graphs."""
    findings = sorted(_findings(status, now), key=lambda finding: -finding[0])
    level = findings[0][0] if findings else Level.OK
    texts = [text for _, text in findings[:_SHOWN]]
    if len(findings) > _SHOWN:
        texts.append(f"{len(findings) - _SHOWN} more: vfagent status")
    return level, f"{line(level, '; '.join(texts) or _summary(status))} | {_counts(status)}"


def line(level: Level, text: str) -> str:
    """A | would end the text."""
    return f"VFAGENT {level.name} - {printable(text).replace('|', '/')}"


def _findings(status: Status, now: float) -> Iterator[tuple[Level, str]]:
    if not status.ready:
        yield Level.WARNING, "the service is starting"
    yield from ((Level.WARNING, f"policy: {problem}") for problem in status.policy.problems)
    if status.policy.on_disk_active is False and not status.policy.problems:
        yield Level.WARNING, "the policy on disk is not the active one"
    yield from ((Level.WARNING, f"bridges: {problem}") for problem in status.bridges)
    for pf in status.pfs:
        yield from ((level, f"{pf.interface or pf.address}: {text}") for level, text in _pf(pf, now))
    for guest in status.guests:
        if level := _guest(guest):
            yield level, f"guest {guest.name}: {guest.phase}{f', {guest.detail}' if guest.detail else ''}"


def _pf(pf: PfStatus, now: float) -> Iterator[tuple[Level, str]]:
    why = next((failure.text for failure in pf.failures), "") or next(iter((*pf.problems, *pf.waiting)), "")
    text = f"{pf.phase}{f', {why}' if why else ''}"
    match pf.phase:
        case Phase.FAILED | Phase.STUCK:
            yield Level.CRITICAL, text
        case Phase.WAITING | Phase.CONVERGING if pf.since is not None and now - pf.since > _PATIENCE_S:
            yield Level.WARNING, f"{text}, for {(now - pf.since) / 60:.0f} min"
    for vf in pf.vfs:
        if vf.not_isolated:
            yield Level.CRITICAL, f"vf{vf.index} is not isolated: {', '.join(vf.not_isolated)}"
    if pf.carrier is False and pf.admin_up and any(vf.in_use for vf in pf.vfs):
        yield Level.CRITICAL, "no carrier, and its VFs are in use"


def _guest(guest: GuestStatus) -> Level | None:
    match guest.phase:
        case GuestPhase.FAILED | GuestPhase.PAUSED:
            return Level.CRITICAL
        case GuestPhase.WAITING:
            return Level.WARNING
    return None


def _summary(status: Status) -> str:
    deferred = sum(pf.phase is Phase.DEFERRED for pf in status.pfs)
    later = f", changes of {deferred} wait for VFs in use" if deferred else ""
    return f"{counted(len(status.pfs), 'PF')}, {counted(len(status.guests), 'guest')}{later}"


def _counts(status: Status) -> str:
    managed = [pf for pf in status.pfs if pf.vfs_desired is not None]
    return " ".join(
        f"{name}={count}"
        for name, count in (
            ("pfs", len(managed)),
            ("pfs_converged", sum(pf.phase is Phase.CONVERGED for pf in managed)),
            ("vfs", sum(pf.vfs_actual for pf in status.pfs)),
            ("vfs_in_use", sum(vf.in_use is not None for pf in status.pfs for vf in pf.vfs)),
            ("guests_running", sum(guest.phase is GuestPhase.RUNNING for guest in status.guests)),
        )
    )
