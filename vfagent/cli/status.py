# SPDX-License-Identifier: Apache-2.0
"""`vfagent status`."""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from vfagent.cli.nagios import Level, judge, line
from vfagent.cli.status_file import read_status, report_no_service, service_runs, status_path
from vfagent.cli.text import (
    attempts,
    columns,
    describe_differing_settings,
    guest_lines,
    print_result,
    until,
)
from vfagent.cli.watch import Source, watch
from vfagent.errors import VfagentError
from vfagent.exit_status import Exit
from vfagent.model.printable import printable
from vfagent.model.status import PfStatus, Status, VfStatus
from vfagent.store.policy_on_disk import not_active


def status(args: argparse.Namespace) -> int:
    root: Path = args.root
    if args.nagios:
        return _nagios(root)
    file = read_status(root)
    if file is not None and args.watch and not args.json and sys.stdout.isatty():
        return _watch(root)
    while file is not None:
        if args.json:
            print(json.dumps(file.data, separators=(",", ":")) if args.watch else json.dumps(file.data, indent=2))
        else:
            print_result(status_lines(file.status, not_active(root, file.status.policy)))
        if not args.watch:
            return Exit.OK if file.status.converged else Exit.NOT_CONVERGED
        sys.stdout.flush()  # a pipe has a buffer
        _wait_for_change(root)
        if not args.json:
            print()
        file = read_status(root)
    return report_no_service()


def _nagios(root: Path) -> int:
    """A plugin says everything in one line of its standard output."""
    try:
        file = read_status(root)
    except VfagentError as error:
        print(line(Level.UNKNOWN, str(error)))
        return Level.UNKNOWN
    if file is None:
        print(line(Level.CRITICAL, "the service is not running"))
        return Level.CRITICAL
    level, text = judge(file.status, time.time())
    print(text)
    return level


def _watch(root: Path) -> int:
    def read() -> Status | None:
        file = read_status(root)
        return file.status if file else None

    source = Source(read, lambda: service_runs(root), lambda status: not_active(root, status.policy))
    watch(status_path(root), source, sys.stdout)
    return Exit.OK


def _wait_for_change(root: Path) -> None:
    """The service replaces the file at each change, and nobody reads faster than once a second."""
    path = status_path(root)
    before = path.stat().st_ino if path.exists() else 0
    while path.exists() and path.stat().st_ino == before and service_runs(root):
        time.sleep(1.0)


def status_lines(status: Status, remark: str | None = None) -> list[str]:
    policy = status.policy
    lines = [
        f"vfagent {status.version}, pid {status.pid}, {'ready' if status.ready else 'starting'}",
        f"policy {policy.digest}: {', '.join(policy.files)}"
        if policy.files
        else "no policy: every NIC is left as it is",
        *((f"  {remark}",) if remark else ()),
        *(f"  not active: {problem}" for problem in policy.problems),
        *(f"bridges: {problem}" for problem in status.bridges),
        *policy.unused_rules,
    ]
    if not status.pfs:
        lines.append("no PCI function with SR-IOV found: waiting for one")
    lines = [printable(line) for line in lines] + [line for pf in status.pfs for line in _pf_lines(pf)]
    return lines + (["guests:", *(f"  {line}" for line in guest_lines(status.guests))] if status.guests else [])


def _pf_lines(pf: PfStatus) -> Iterator[str]:
    name = f"{pf.address} ({pf.interface})" if pf.interface else pf.address
    rule = f", rule {pf.rule}" if pf.rule else ""
    count = f"{pf.vfs_actual} of {pf.vfs_desired} VFs" if pf.vfs_desired is not None else f"{pf.vfs_actual} VFs"
    yield printable(f"{name}: {pf.phase}{rule}, {count}")
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
    yield from columns((_vf_row(vf) for vf in pf.vfs), "  ")


def _vf_row(vf: VfStatus) -> tuple[str, ...]:
    settings = describe_differing_settings(vf.settings)
    return f"vf{vf.index}", vf.address, vf.driver or "no driver", settings, vf.in_use or ""
