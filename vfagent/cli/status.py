# SPDX-License-Identifier: Apache-2.0
"""`vfagent status`."""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from vfagent.cli.cards import chosen, names_of_address
from vfagent.cli.colour import coloured
from vfagent.cli.nagios import Level, judge, line
from vfagent.cli.screen import painted
from vfagent.cli.status_file import read_status, report_no_service, service_runs, status_path
from vfagent.cli.text import (
    attempts,
    columns,
    counted,
    describe_differing_settings,
    guest_lines,
    on_trial,
    print_result,
    ranges,
    until,
)
from vfagent.cli.watch import Source, watch
from vfagent.errors import VfagentError
from vfagent.exit_status import Exit
from vfagent.model.codec import encode
from vfagent.model.printable import printable
from vfagent.model.status import PfStatus, Status, VfStatus
from vfagent.store.policy_on_disk import not_active

_MANY_VFS = 16


def status(args: argparse.Namespace) -> int:
    root: Path = args.root
    if args.nagios:
        return _nagios(root, args.cards)
    file = read_status(root)
    if file is not None and args.watch and not args.json and not args.cards and sys.stdout.isatty():
        return _watch(root, colour=coloured(args.color))
    while file is not None:
        shown = only(file.status, args.cards)
        if args.json:
            data = file.data if not args.cards else encode(shown)
            print(json.dumps(data, separators=(",", ":")) if args.watch else json.dumps(data, indent=2))
        else:
            remark = not_active(root, file.status.policy)
            print_result(status_lines(shown, remark, colour=coloured(args.color), folded=not args.cards))
        if not args.watch:
            return Exit.OK if shown.converged else Exit.NOT_CONVERGED
        sys.stdout.flush()  # a pipe has a buffer
        _wait_for_change(root)
        if not args.json:
            print()
        file = read_status(root)
    return report_no_service()


def _nagios(root: Path, cards: list[str]) -> int:
    """A plugin says everything in one line of its standard output."""
    try:
        file = read_status(root)
        shown = only(file.status, cards) if file else None
    except VfagentError as error:
        print(line(Level.UNKNOWN, str(error)))
        return Level.UNKNOWN
    if shown is None:
        print(line(Level.CRITICAL, "the service is not running"))
        return Level.CRITICAL
    level, text = judge(shown, time.time())
    print(text)
    return level


def only(status: Status, cards: list[str]) -> Status:
    """Of these cards, and of the guests on them. Raises VfagentError where there is no such card."""
    if not cards:
        return status
    pfs = tuple(chosen(cards, status.pfs, _names))
    addresses = {pf.address for pf in pfs} | {vf.address for pf in pfs for vf in pf.vfs}
    guests = (
        guest
        for guest in status.guests
        if any(address in " ".join((*guest.vfs, *guest.vf_addresses)) for address in addresses)
    )
    return replace(status, pfs=pfs, guests=tuple(guests), bridges=())


def _names(pf: PfStatus) -> tuple[str, ...]:
    return (*names_of_address(pf.address), *((pf.interface,) if pf.interface else ()))


def _watch(root: Path, *, colour: bool) -> int:
    def read() -> Status | None:
        file = read_status(root)
        return file.status if file else None

    source = Source(read, lambda: service_runs(root), lambda status: not_active(root, status.policy))
    watch(status_path(root), source, sys.stdout, colour=colour)
    return Exit.OK


def _wait_for_change(root: Path) -> None:
    """The service replaces the file at each change, and nobody reads faster than once a second."""
    path = status_path(root)
    before = path.stat().st_ino if path.exists() else 0
    while path.exists() and path.stat().st_ino == before and service_runs(root):
        time.sleep(1.0)


def status_lines(status: Status, remark: str | None = None, *, colour: bool = False, folded: bool = True) -> list[str]:
    """`folded`: many VFs of a PF as ranges of equal ones; else the facts of each PF, too."""
    policy = status.policy
    lines = [
        f"vfagent {status.version}, pid {status.pid}, {'ready' if status.ready else 'starting'}",
        f"policy {policy.digest}: {', '.join(policy.files)}"
        if policy.files
        else "no policy: every NIC is left as it is",
        *((f"  {remark}",) if remark else ()),
        *(f"  {line}" for line in on_trial(policy)),
        *(f"  not active: {problem}" for problem in policy.problems),
        *(f"bridges: {problem}" for problem in status.bridges),
        *policy.unused_rules,
    ]
    if not status.pfs:
        lines.append("no PCI function with SR-IOV found: waiting for one")
    lines = [printable(line) for line in lines] + [
        line for pf in status.pfs for line in _pf_lines(pf, colour=colour, folded=folded)
    ]
    return lines + (["guests:", *(f"  {line}" for line in guest_lines(status.guests))] if status.guests else [])


def _pf_lines(pf: PfStatus, *, colour: bool, folded: bool) -> Iterator[str]:
    name = f"{pf.address} ({pf.interface})" if pf.interface else pf.address
    rule = f", rule {pf.rule}" if pf.rule else ""
    count = f"{pf.vfs_actual} of {pf.vfs_desired} VFs" if pf.vfs_desired is not None else f"{pf.vfs_actual} VFs"
    phase = painted(pf.phase) if colour else pf.phase
    yield f"{printable(name)}: {phase}{printable(rule)}, {count}"
    if not folded:
        yield from _facts(pf)
    if text := attempts(pf):
        yield f"  {text}"
    for title, lines in (
        ("running", pf.running_steps),
        ("pending", pf.pending_steps if not pf.running_steps else ()),
        ("deferred", pf.deferred),
        ("waits", pf.waiting),
        ("problem", pf.problems),
        ("note", pf.notes),
        ("error", tuple(f"{error.text}{f' ({error.hint})' if error.hint else ''}" for error in pf.failures)),
    ):
        yield from (printable(f"  {title}: {line}") for line in lines)
    if text := until(pf):
        yield f"  until: {text}"
    rows = _folded(pf.vfs) if folded and len(pf.vfs) > _MANY_VFS else map(_vf_row, pf.vfs)
    yield from columns(rows, "  ")
    if folded and len(pf.vfs) > _MANY_VFS:
        yield f"  vfagent status {pf.interface or pf.address} shows each VF"


def _facts(pf: PfStatus) -> Iterator[str]:
    link = {True: "with a link", False: "without a link", None: ""}[pf.carrier]
    admin = {True: "up", False: "down", None: ""}[pf.admin_up]
    mtu = f"MTU {pf.mtu}" if pf.mtu else ""
    since = time.strftime("since %Y-%m-%d %H:%M:%S", time.localtime(pf.since)) if pf.since else ""
    totalvfs = f"at most {counted(pf.totalvfs, 'VF')}" if pf.totalvfs is not None else ""
    for texts in ((pf.model, pf.driver and f"driver {pf.driver}", totalvfs), (admin, link, mtu), (since,)):
        if line := ", ".join(text for text in texts if text):
            yield printable(f"  {line}")


def _folded(vfs: tuple[VfStatus, ...]) -> Iterator[tuple[str, ...]]:
    """A row for each kind of VFs. What each has for itself, its address and its MAC, is left out."""
    kinds = dict[tuple[str, ...], list[int]]()
    for vf in vfs:
        settings = replace(vf.settings, mac=None, node_guid=None, port_guid=None) if vf.settings else None
        kind = (vf.driver or "no driver", describe_differing_settings(settings), vf.in_use or "")
        kinds.setdefault(kind, []).append(vf.index)
    return ((f"vf{ranges(indices)}", counted(len(indices), "VF"), *kind) for kind, indices in kinds.items())


def _vf_row(vf: VfStatus) -> tuple[str, ...]:
    settings = describe_differing_settings(vf.settings)
    return f"vf{vf.index}", vf.address, vf.driver or "no driver", settings, vf.in_use or ""
