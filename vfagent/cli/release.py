# SPDX-License-Identifier: Apache-2.0
"""`vfagent release`: a worker restores a PF to what it was before vfagent changed it."""

import argparse
import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from vfagent.errors import VfagentError
from vfagent.exit_status import Exit
from vfagent.kernel.protocols import Host
from vfagent.model.pci import PciAddress
from vfagent.process import worker
from vfagent.process.worker import NoAnswerError
from vfagent.process.workers import Workers
from vfagent.reconcile.reports import Report, StepEnded, StepStarted, Waits
from vfagent.service.releases import RELEASE_S, assumes_idle, find_pf, release_alone
from vfagent.store.identity import open_host
from vfagent.store.state import State

_DEADLINE_S = RELEASE_S


def release(args: argparse.Namespace) -> int:
    root: Path = args.root
    host, state = open_host(root), State(root)
    address = find_pf(host, args.pf)
    if address in state.released():
        print(f"{address}: already released; `systemctl reload vfagent` manages it again", file=sys.stderr)
        return Exit.OK
    host = replace(host, assume_idle=assumes_idle(host, address, root))
    state.release(address)  # first, so that a running service leaves the PF alone
    try:
        asyncio.run(_release_in_worker(host, state, address, force=args.force))
    except VfagentError:
        state.take_back(address)
        raise
    print(f"{address}: released; `systemctl reload vfagent` or `vfagent apply` manages it again", file=sys.stderr)
    return Exit.OK


async def _release_in_worker(host: Host, state: State, address: PciAddress, *, force: bool) -> None:
    def body(send: worker.Send) -> None:
        try:
            release_alone(address, host, state, send, force=force)
        except VfagentError as error:
            send(error)

    workers, errors = Workers(), list[VfagentError]()
    await workers.places.take()
    try:
        async for report in workers.stream(workers.start(body), lambda: _DEADLINE_S):
            if isinstance(report, VfagentError):
                errors.append(report)
            else:
                _print(report)
    except NoAnswerError as error:
        why = f"no answer from the kernel within {_DEADLINE_S:.0f} s" if error.timed_out else str(error)
        raise VfagentError(f"{address}: cannot release it: {why}") from error
    if errors:
        raise errors[0]


def _print(report: Report) -> None:
    match report:
        case Waits():
            print(f"waiting: {report.busy.text}", file=sys.stderr)
        case StepStarted():
            print(f"{report.step.describe()} ({report.reason})", file=sys.stderr)
        case StepEnded() if report.failure:
            print(f"failed: {report.failure.text}", file=sys.stderr)
