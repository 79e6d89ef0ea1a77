# SPDX-License-Identifier: Apache-2.0
"""Convergence by hand: `vfagent apply`, and `vfagent release`."""

import asyncio
import contextlib
import json
import os
import select
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from vfagent.cli.text import NO_POLICY, NOTHING_MATCHES, printable
from vfagent.errors import VfagentError
from vfagent.exit_status import Exit
from vfagent.kernel.protocols import Host
from vfagent.model.codec import encode
from vfagent.model.pci import PciAddress, pci_address
from vfagent.model.status import Phase
from vfagent.policy.types import Policy
from vfagent.process import worker
from vfagent.reconcile.observe import observe_pf, pf_addresses
from vfagent.reconcile.pf_state import PfState
from vfagent.reconcile.release import release
from vfagent.reconcile.reports import StepEnded, StepStarted
from vfagent.reconcile.scheduler import Scheduler
from vfagent.reconcile.status import pf_status
from vfagent.service.bridges import converge_bridges
from vfagent.service.kernel_events import KernelEvents
from vfagent.store.identity import open_host, read_identity
from vfagent.store.locks import take_lock
from vfagent.store.policy_files import load
from vfagent.store.state import State
from vfagent.systemd.journal import setup_logging

_GRACE_S = 10.0  # for links and drivers that are still on their way
_STUCK_S, _PATIENCE_S = 200.0, 90.0


async def apply_once(root: Path, *, as_json: bool) -> int:
    """Until nothing is left that can be done now. Steps are logged as they end."""
    setup_logging(debug=False)
    policy, lock = load(root), _lock(State(root))
    try:
        return await _apply(root, policy, lock, as_json=as_json)
    finally:
        os.close(lock)


async def _apply(root: Path, policy: Policy, lock: int, *, as_json: bool) -> int:
    state, host = State(root), open_host(root)
    for address in state.released():
        state.take_back(address)
    _bridges(policy, host)
    changed = asyncio.Event()
    scheduler = Scheduler(host, state, read_identity(root), policy, lambda _: changed.set())
    scheduler.workers.keep_from_workers = lambda: (lock,)
    kernel_events = KernelEvents(host, scheduler)
    kernel_events.start()
    kernel_events.reconcile_all(now=True)
    started = time.monotonic()
    while not _finished(scheduler, started):
        changed.clear()
        try:
            await asyncio.wait_for(changed.wait(), 0.2)
        except TimeoutError:
            continue
    scheduler.stop()
    kernel_events.stop()
    # Again: one that no rule is for goes once its last port has gone, which may be a PF's leg.
    bridged = _bridges(policy, host)
    states = sorted(scheduler.pfs.values(), key=lambda one: one.address)
    if as_json:
        print(json.dumps([encode(pf_status(one)) for one in states], indent=2))
    if policy.guest:
        print("guests are started by the service: systemctl start vfagent", file=sys.stderr)
    if not policy.files:
        print(NO_POLICY, file=sys.stderr)
    elif all(state.phase is Phase.UNMANAGED for state in states):
        print(NOTHING_MATCHES, file=sys.stderr)
    found = _verdict(states)
    return found if found or bridged else Exit.NOT_CONVERGED


def _lock(state: State) -> int:
    """Two at once would undo each other's work; the service counts too, whenever it starts."""
    try:
        return take_lock(state.run)
    except BlockingIOError:
        hint = "systemctl status vfagent; or wait for the other vfagent apply to end"
        raise VfagentError("apply: cannot begin: another vfagent is at work", hint=hint) from None


def _bridges(policy: Policy, host: Host) -> bool:
    """Look at the policy's bridges, and tell; whether they are as it says."""
    found = converge_bridges(policy, host)
    for text in (*found.done, *found.problems):
        print(f"bridges: {text}", file=sys.stderr)
    return not found.problems


def _finished(scheduler: Scheduler, started: float) -> bool:
    if not scheduler.idle:
        return all(
            state.stuck or state.suspended for state in scheduler.pfs.values() if state.reconciling or state.dirty
        )
    waiting = any(state.phase is Phase.WAITING for state in scheduler.pfs.values())
    return not waiting or time.monotonic() - started > _GRACE_S


def _verdict(states: list[PfState]) -> int:
    phases = {state.phase for state in states}
    for state in states:
        name = state.pf.name if state.pf else state.address
        if state.phase is not Phase.UNMANAGED:
            print(f"{name}: {state.phase}", file=sys.stderr)
        for late in state.plan.deferred:
            print(printable(f"  {late.step.describe()} ({late.reason}): {late.blocker}"), file=sys.stderr)
    if any(state.plan.deferred for state in states):
        return Exit.REFUSED
    return Exit.OK if phases <= {Phase.CONVERGED, Phase.UNMANAGED} else Exit.NOT_CONVERGED


def release_pf(root: Path, name: str, *, force: bool) -> int:
    host, state = open_host(root), State(root)
    address = _named(host, name)
    if address in state.released():
        print(f"{address}: was given back before; `systemctl reload vfagent` takes it again", file=sys.stderr)
        return Exit.OK
    state.release(address)  # first, so that a running service does not take it again
    try:
        _in_worker(host, state, address, force=force)
    except VfagentError:
        state.take_back(address)
        raise
    print(f"{address}: given back; `systemctl reload vfagent` or `vfagent apply` takes it again", file=sys.stderr)
    return Exit.OK


def _named(host: Host, name: str) -> PciAddress:
    there = pf_addresses(host)
    for address in there:
        pf = observe_pf(host, address)
        if pf and pf.netdev and pf.netdev.name == name:
            return address
    with contextlib.suppress(ValueError):
        if (address := pci_address(name)) in there:
            return address
    raise VfagentError(f"{name}: there is no such PF", hint="vfagent list shows those that are there")


def _in_worker(host: Host, state: State, address: PciAddress, *, force: bool) -> None:
    def body(send: worker.Send) -> None:
        try:
            with state.to_itself(address, _PATIENCE_S):  # a look of the service's may be under way
                release(address, host, state, send, force=force)
        except VfagentError as error:
            send(error)

    child, errors = worker.start(body), list[VfagentError]()
    end = time.monotonic() + _STUCK_S
    while not select.select([child.pidfd], [], [], 0.0)[0]:
        select.select([child.reports, child.pidfd], [], [], 1.0)
        errors += _show(child)
        if time.monotonic() > end:
            child.kill()
            raise VfagentError(f"{address}: cannot release it: no answer from the kernel within {_STUCK_S:.0f} s")
    errors += _show(child)
    status = child.close()
    if errors:
        raise errors[0]
    if status != 0:
        raise VfagentError(f"{address}: cannot release it: the worker died")


def _show(child: worker.Worker) -> Iterator[VfagentError]:
    """Tell what the worker reports; its errors are for the caller."""
    for report in child.read():
        match report:
            case StepStarted():
                print(f"{report.step.describe()} ({report.reason})", file=sys.stderr)
            case StepEnded() if report.failure:
                print(f"failed: {report.failure.text}", file=sys.stderr)
            case VfagentError():
                yield report
