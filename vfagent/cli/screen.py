# SPDX-License-Identifier: Apache-2.0
"""The status as a screen: the most important first, no line wider than the terminal, readable without colour."""

import textwrap
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby

from vfagent.cli.text import attempts, on_trial, until
from vfagent.frozen import frozen
from vfagent.model.printable import printable
from vfagent.model.status import GuestPhase, GuestStatus, PfStatus, Phase, Status, TimedStep, VfStatus

_GREEN, _YELLOW, _RED, _BOLD, _PLAIN = ("\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[1m", "\x1b[0m")
_COLOURS: dict[str, str] = {
    **dict.fromkeys((Phase.CONVERGED, GuestPhase.RUNNING), _GREEN),
    **dict.fromkeys((Phase.CONVERGING, Phase.WAITING, Phase.DEFERRED), _YELLOW),
    **dict.fromkeys((GuestPhase.STARTING, GuestPhase.STOPPING), _YELLOW),
    **dict.fromkeys((Phase.FAILED, Phase.STUCK, GuestPhase.PAUSED), _RED),
}
_RECENT_STEPS = 4

Row = tuple[str, ...]


@frozen(slots=True)
class Terminal:
    """`now`: CLOCK_MONOTONIC, by which steps are timed."""

    columns: int
    rows: int
    colour: bool
    now: float


def screen(status: Status, terminal: Terminal, remark: str | None = None) -> list[str]:
    """Errors and running steps are above the tables. Lines that do not fit are left out at the end."""
    sections = (
        _head(status, terminal),
        _section(
            "policy", (*((remark,) if remark else ()), *on_trial(status.policy), *status.policy.unused_rules), terminal
        ),
        _section("errors", _errors(status), terminal),
        _section("now", _now(status), terminal),
        _pfs(status.pfs, terminal),
        _table(("guest", "phase", "pid", "VFs, or what it waits for"), map(_guest, status.guests), terminal),
        _section("recent", _recent_steps(status, terminal.now), terminal),
        _table(("VF", "driver", "VLAN", "phase", "used by"), _vfs(status), terminal),
    )
    lines = [line for section in sections for line in section]
    room = terminal.rows - 1  # the cursor's line
    if len(lines) <= room:
        return lines
    left = lines[room - 1 :]
    return [*lines[: room - 1], _cut(f"… {sum(map(bool, left))} more lines: vfagent status has them", terminal)]


def painted(phase: str) -> str:
    colour = _COLOURS.get(phase)
    return f"{colour}{phase}{_PLAIN}" if colour else phase


def _head(status: Status, terminal: Terminal) -> Iterator[str]:
    phases = Counter(pf.phase for pf in status.pfs)
    pfs = ", ".join(f"{count} {phase}" for phase, count in phases.items()) or "none here"
    used = sum(vf.in_use is not None for pf in status.pfs for vf in pf.vfs)
    running = sum(guest.phase is GuestPhase.RUNNING for guest in status.guests)
    about = (
        f"vfagent {status.version}, {'ready' if status.ready else 'starting'}, policy {status.policy.digest or 'none'}"
    )
    clock = time.strftime("%H:%M:%S", time.localtime(status.written_at))
    yield _cut(f"{about}{clock:>{max(terminal.columns - len(about), len(clock) + 1)}}", terminal)
    guests = f"; {running} of {len(status.guests)} guests run" if status.guests else ""
    yield _cut(f"PFs: {pfs}; {sum(pf.vfs_actual for pf in status.pfs)} VFs, {used} in use{guests}", terminal)


def _errors(status: Status) -> Iterator[str]:
    yield from (f"policy not active: {problem}" for problem in status.policy.problems)
    for pf in status.pfs:
        yield from (f"{error.text} ({error.hint})" if error.hint else error.text for error in pf.failures)
        yield from (f"{pf.address}: {problem}" for problem in pf.problems)
    yield from (f"bridges: {problem}" for problem in status.bridges)
    for guest in status.guests:
        if guest.phase in (GuestPhase.FAILED, GuestPhase.PAUSED):
            yield f"guest {guest.name}: {guest.detail}"


def _now(status: Status) -> Iterator[str]:
    for pf in status.pfs:
        yield from pf.running_steps
    changing = (GuestPhase.STARTING, GuestPhase.STOPPING)
    yield from (f"{guest.phase} guest {guest.name}" for guest in status.guests if guest.phase in changing)


def _recent_steps(status: Status, now: float) -> Iterator[str]:
    """The last steps, with failed attempts."""
    done = [(step.ended, step) for pf in status.pfs for step in pf.timeline if step.ended and step.ended <= now]
    for ended, step in sorted(done, key=lambda ended_step: ended_step[0], reverse=True)[:_RECENT_STEPS]:
        yield f"{_age(now - ended):>5} ago: {_outcome(step, ended)}"


def _outcome(step: TimedStep, ended: float) -> str:
    return step.failed or f"{step.text}, in {ended - step.started:.2f} s"


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _section(title: str, texts: Iterable[str], terminal: Terminal) -> Iterator[str]:
    """Texts are wrapped, never cut: the end of an error is what matters."""
    lines = [line for text in texts for line in _wrapped(text, terminal, "  ")]
    if lines:
        yield from ("", _heading(title, terminal), *lines)


def _wrapped(text: str, terminal: Terminal, indent: str) -> list[str]:
    further = indent + "    "
    return textwrap.wrap(
        printable(text),
        max(terminal.columns, len(further) + 8),
        initial_indent=indent,
        subsequent_indent=further,
        break_on_hyphens=False,
    )


def _pfs(pfs: tuple[PfStatus, ...], terminal: Terminal) -> Iterator[str]:
    head, *rows = _table(("PF", "interface", "phase", "VFs", "rule"), map(_pf, pfs), terminal) or [""]
    if not rows:
        return
    yield from (head, rows[0])
    for pf, row in zip(pfs, rows[1:], strict=True):
        yield row
        remarks = [text for text in (attempts(pf),) if text]
        remarks += [f"deferred: {text}" for text in pf.deferred] + [f"waits: {text}" for text in pf.waiting]
        remarks += [f"until: {text}" for text in (until(pf),) if text and pf.waiting]
        yield from (line for text in remarks for line in _wrapped(text, terminal, "  "))


def _pf(pf: PfStatus) -> Row:
    count = f"{pf.vfs_actual} of {pf.vfs_desired}" if pf.vfs_desired is not None else str(pf.vfs_actual)
    return pf.address, pf.interface or "", pf.phase, count, pf.rule or ""


def _guest(guest: GuestStatus) -> Row:
    remark = guest.detail or " ".join(guest.vfs)
    return guest.name, guest.phase, str(guest.pid or ""), remark + (" (with an older rule)" if guest.outdated else "")


def _vfs(status: Status) -> Iterator[Row]:
    """Adjacent VFs with the same values share a line."""
    users = {address: f"guest {guest.name}" for guest in status.guests for address in guest.vf_addresses}
    for pf in status.pfs:
        for about, alike in groupby(pf.vfs, key=lambda vf: _vf(vf, users)):
            first, *others = alike
            last = f"-{others[-1].index}" if others else ""
            yield (f"{pf.address}/vf{first.index}{last}", *about)


def _vf(vf: VfStatus, users: dict[str, str]) -> Row:
    vlan = str(vf.settings.vlan.id) if vf.settings and vf.settings.vlan and vf.settings.vlan.id else ""
    differs = f"differs: {', '.join(vf.differs)}" if vf.differs else ""
    remarks = (users.get(vf.address) or vf.in_use or "", differs)
    return vf.driver or "none", vlan, vf.phase, "; ".join(filter(None, remarks))


def _table(titles: Row, rows: Iterable[Row], terminal: Terminal) -> list[str]:
    """An empty line, the titles and the rows; nothing without rows. The last column is as wide as it can be."""
    cells = [titles, *(tuple(printable(cell) for cell in row) for row in rows)]
    if len(cells) == 1:
        return []
    widths = [max(len(row[i]) for row in cells) for i in range(len(titles) - 1)]
    head, *lines = (
        _cut("  ".join((*(f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)), row[-1])), terminal)
        for row in cells
    )
    at = titles.index("phase")
    start = sum(widths[:at]) + 2 * at
    coloured = (_coloured(line, start, row[at], terminal) for line, row in zip(lines, cells[1:], strict=True))
    return ["", _heading(head, terminal), *(line.rstrip() for line in coloured)]


def _coloured(line: str, start: int, phase: str, terminal: Terminal) -> str:
    end = start + len(phase)
    if not terminal.colour or phase not in _COLOURS or line[start:end] != phase:
        return line
    return f"{line[:start]}{_COLOURS[phase]}{phase}{_PLAIN}{line[end:]}"


def _heading(text: str, terminal: Terminal) -> str:
    return f"{_BOLD}{text}{_PLAIN}" if terminal.colour else text


def _cut(text: str, terminal: Terminal) -> str:
    return text if len(text) <= terminal.columns else text[: terminal.columns - 1] + "…"
