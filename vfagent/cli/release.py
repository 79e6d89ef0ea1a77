# SPDX-License-Identifier: Apache-2.0
"""`vfagent release`: a worker restores a PF to what it was before vfagent changed it."""

import argparse
import asyncio
import contextlib
import sys
from dataclasses import replace
from pathlib import Path

from vfagent.errors import PolicyError, VfagentError
from vfagent.exit_status import Exit
from vfagent.kernel.protocols import Host
from vfagent.model.pci import PciAddress, pci_address
from vfagent.policy.match import desired_pf, names_of
from vfagent.process import worker
from vfagent.process.worker import NoAnswerError
from vfagent.process.workers import Workers
from vfagent.reconcile.observe import observe_pf, pf_addresses
from vfagent.reconcile.release import release as release_in_worker
from vfagent.reconcile.reports import Report, StepEnded, StepStarted, Waits
from vfagent.store.identity import open_host, read_identity
from vfagent.store.policy_files import load
from vfagent.store.state import State

_DEADLINE_S, _LOCK_WAIT_S = 200.0, 90.0


def release(args: argparse.Namespace) -> int:
    root: Path = args.root
    host, state = open_host(root), State(root)
    address = find_pf(host, args.pf)
    if address in state.released():
        print(f"{address}: already released; `systemctl reload vfagent` manages it again", file=sys.stderr)
        return Exit.OK
    host = replace(host, assume_idle=_assumes_idle(host, address, root))
    state.release(address)  # first, so that a running service leaves the PF alone
    try:
        asyncio.run(_release_in_worker(host, state, address, force=args.force))
    except VfagentError:
        state.take_back(address)
        raise
    print(f"{address}: released; `systemctl reload vfagent` or `vfagent apply` manages it again", file=sys.stderr)
    return Exit.OK


def find_pf(host: Host, name: str) -> PciAddress:
    addresses = pf_addresses(host)
    for address in addresses:
        pf = observe_pf(host, address)
        if pf and any(name in names_of(netdev) for netdev in pf.netdevs):
            return address
    with contextlib.suppress(ValueError):
        if (address := pci_address(name)) in addresses:
            return address
    raise VfagentError(f"{name}: there is no such PF", hint="vfagent list shows those that are there")


def _assumes_idle(host: Host, address: PciAddress, root: Path) -> bool:
    """As the PF's rule says. Without a readable policy nothing is assumed."""
    try:
        policy = load(root)
    except PolicyError:
        return False
    pf = observe_pf(host, address)
    desired = desired_pf(policy, pf, read_identity(root)) if pf else None
    return desired is not None and desired.assume_idle


async def _release_in_worker(host: Host, state: State, address: PciAddress, *, force: bool) -> None:
    def body(send: worker.Send) -> None:
        try:
            with state.to_itself(address, _LOCK_WAIT_S):  # the service may be reconciling the PF
                release_in_worker(address, host, state, send, force=force)
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
