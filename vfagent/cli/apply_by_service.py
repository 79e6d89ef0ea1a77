# SPDX-License-Identifier: Apache-2.0
"""`vfagent apply` beside the running service: a preview, the reload, and what came of it."""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TextIO

from vfagent.cli.outputs import Apply, print_json
from vfagent.cli.reload import request_reload
from vfagent.errors import VfagentError
from vfagent.exit_status import Exit
from vfagent.guests.dry_run import dry_runs
from vfagent.model.codec import decode
from vfagent.model.printable import printable
from vfagent.model.status import GUESTS_DONE, PFS_DONE, GuestPhase, GuestStatus, PfStatus, Phase, Status
from vfagent.plan.steps import SetNumvfs
from vfagent.reconcile.reports import Observed
from vfagent.service.control_client import monitor
from vfagent.service.control_interface import AGENT
from vfagent.store.identity import open_host
from vfagent.store.policy_files import load

_ENDED = (*PFS_DONE, Phase.DEFERRED, Phase.FAILED, Phase.STUCK)
_GUESTS_ENDED = (*GUESTS_DONE, GuestPhase.FAILED, GuestPhase.PAUSED)


def apply_by_service(args: argparse.Namespace) -> int:
    root: Path = args.root
    policy = load(root)
    runs = dry_runs(policy, open_host(root), root)
    for line in summary(runs):
        print(printable(line), file=sys.stderr)
    if _to_ask(runs) and not args.yes and sys.stdin.isatty() and not _agreed():
        print("nothing was changed", file=sys.stderr)
        return Exit.ERROR
    try:
        digest = request_reload(root, args.confirm)
    except FileNotFoundError:  # the lock is that of another `vfagent apply`
        raise another_runs() from None
    if args.confirm:
        print(f"policy {digest} is on trial: within {args.confirm} s, vfagent confirm keeps it", file=sys.stderr)
    return Exit.OK if args.no_wait else follow(root, digest, args.timeout, as_json=args.json)


def another_runs() -> VfagentError:
    hint = "systemctl status vfagent; or wait for the other vfagent apply to end"
    return VfagentError("apply: cannot start: another vfagent is running", hint=hint)


def summary(runs: Iterable[Observed]) -> Iterator[str]:
    """What the policy changes, by PF, and what waits."""
    for run in runs:
        if run.pf is None or run.plan.settled:
            continue
        lost = f", removes {len(run.pf.vfs)} VFs first" if _removes_vfs(run) else ""
        count = len(run.plan.steps)
        steps = f"{count} step{'' if count == 1 else 's'}{lost}" if count else "nothing that can be done now"
        yield f"{run.pf.name}: {steps}"
        yield from (f"  deferred: {item.step.describe()}: {item.blocker}" for item in run.plan.deferred)
        yield from (f"  problem: {problem}" for problem in run.plan.problems)


def _removes_vfs(run: Observed) -> bool:
    steps = (planned.step for planned in run.plan.steps)
    return run.pf is not None and bool(run.pf.vfs) and any(isinstance(step, SetNumvfs) for step in steps)


def _to_ask(runs: Iterable[Observed]) -> bool:
    return any(run.plan.deferred or _removes_vfs(run) for run in runs)


def _agreed() -> bool:
    print("apply it? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def follow(root: Path, digest: str, timeout_s: float, *, as_json: bool) -> int:
    progress, status = Progress(sys.stderr), None
    try:
        with closing(monitor(root, f"{AGENT}.Monitor", time.monotonic() + timeout_s)) as replies:
            for reply in replies:
                status = decode(Status, reply["status"])
                progress.show(status)
                if status.policy.digest != digest or ended(status):
                    break
            else:
                raise VfagentError(
                    "apply: the service ended meanwhile", hint="systemctl status vfagent; vfagent status"
                )
    except TimeoutError:
        print(f"not finished after {timeout_s:g} s: it goes on; vfagent status shows it", file=sys.stderr)
    except ValueError as error:
        raise VfagentError(
            f"apply: the service is of another version: {error}", hint="systemctl restart vfagent"
        ) from error
    progress.end()
    return _verdict(status, digest, as_json=as_json)


def ended(status: Status) -> bool:
    """Nothing more comes of waiting: what is deferred or has failed waits for somebody."""
    pfs = all(pf.phase in _ENDED for pf in status.pfs)
    held = any(pf.phase not in PFS_DONE for pf in status.pfs)
    guests = (guest.phase in _GUESTS_ENDED or (held and guest.phase is GuestPhase.WAITING) for guest in status.guests)
    return status.idle and pfs and all(guests)


def _verdict(status: Status | None, digest: str, *, as_json: bool) -> int:
    if status is None:
        return Exit.NOT_CONVERGED
    if as_json:
        print_json(Apply(status.pfs))
    if status.policy.digest != digest:
        cause = "; ".join(status.policy.problems) or "another was loaded meanwhile"
        print(printable(f"policy {status.policy.digest or 'none'} is active instead: {cause}"), file=sys.stderr)
        return Exit.NOT_CONVERGED
    for line in _unfinished(status):
        print(printable(line), file=sys.stderr)
    if status.converged:
        return Exit.OK
    return Exit.REFUSED if status.only_deferred else Exit.NOT_CONVERGED


def _unfinished(status: Status) -> Iterator[str]:
    for pf in status.pfs:
        if pf.phase not in PFS_DONE:
            yield f"{_name(pf)}: {pf.phase}"
            failures = (f"{failure.text}{f' ({failure.hint})' if failure.hint else ''}" for failure in pf.failures)
            yield from (f"  {line}" for line in (*pf.deferred, *pf.waiting, *pf.problems, *failures))
    for guest in status.guests:
        if guest.phase not in GUESTS_DONE:
            yield f"guest {guest.name}: {guest.phase}{f': {guest.detail}' if guest.detail else ''}"
    yield from (f"bridges: {text}" for text in status.bridges)


def _name(pf: PfStatus) -> str:
    return f"{pf.address} ({pf.interface})" if pf.interface else pf.address


class Progress:
    """On a terminal one line that counts; elsewhere a line for each PF and guest that is done."""

    def __init__(self, out: TextIO) -> None:
        self._out, self._counts = out, out.isatty()
        self._shown: set[str] = set()
        self._width = 0

    def show(self, status: Status) -> None:
        done = [f"{_name(pf)}: {pf.phase}, {pf.vfs_actual} VFs" for pf in status.pfs if self._settled(pf)]
        done += [f"guest {guest.name}: {guest.phase}" for guest in status.guests if guest.phase in GUESTS_DONE]
        if self._counts:
            self._rewrite(_counted(status.pfs, status.guests, len(done)))
            return
        for line in done:
            if line not in self._shown:
                self._shown.add(line)
                print(printable(line), file=self._out, flush=True)

    def _settled(self, pf: PfStatus) -> bool:
        return pf.phase in PFS_DONE and pf.phase is not Phase.UNMANAGED and not pf.running_steps

    def _rewrite(self, line: str) -> None:
        print(f"\r{line.ljust(self._width)}", end="", file=self._out, flush=True)
        self._width = len(line)

    def end(self) -> None:
        if self._counts and self._width:
            print(file=self._out)


def _counted(pfs: tuple[PfStatus, ...], guests: tuple[GuestStatus, ...], done: int) -> str:
    managed = sum(pf.phase is not Phase.UNMANAGED for pf in pfs)
    running = next((f": {pf.interface or pf.address}: {pf.running_steps[0]}" for pf in pfs if pf.running_steps), "")
    return printable(f"{done} of {managed + len(guests)} PFs and guests done{running}")[:78]
