# SPDX-License-Identifier: Apache-2.0
"""`vfagent apply`: by the running service; without it, reconciles every PF once."""

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path

from vfagent.cli.apply_by_service import another_runs, apply_by_service
from vfagent.cli.outputs import Apply, print_json
from vfagent.cli.status_file import lock_is_held
from vfagent.cli.text import NO_POLICY, NOTHING_MATCHES
from vfagent.errors import VfagentError
from vfagent.exit_status import Exit
from vfagent.kernel.protocols import Host
from vfagent.model.printable import printable
from vfagent.model.status import PFS_DONE, Phase
from vfagent.policy.types import Policy
from vfagent.process.workers import Workers
from vfagent.reconcile.pf_state import PfState
from vfagent.reconcile.scheduler import Scheduler
from vfagent.reconcile.status import pf_status
from vfagent.service.bridges import converge_bridges
from vfagent.service.kernel_events import KernelEvents
from vfagent.store.identity import open_host, read_identity
from vfagent.store.locks import take_lock
from vfagent.store.policy_files import load
from vfagent.store.state import State
from vfagent.systemd.journal import setup_logging

_GRACE_S = 10.0  # for links and drivers that are not ready yet


def apply(args: argparse.Namespace) -> int:
    if lock_is_held(args.root):
        return apply_by_service(args)
    if args.confirm:
        text = "apply: cannot go back from a policy without the service, which would do it"
        raise VfagentError(text, hint="systemctl start vfagent")
    return asyncio.run(_apply_once(args.root, as_json=args.json))


async def _apply_once(root: Path, *, as_json: bool) -> int:
    """Until no step is left that can be done now. Steps are logged as they end."""
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
    _converge_bridges(policy, host)
    changed = asyncio.Event()
    workers = Workers(lambda: (lock,))
    scheduler = Scheduler(host, state, read_identity(root), policy, workers, lambda _: changed.set())
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
    await scheduler.stop(within_s=1.0)
    await kernel_events.stop()
    # Again: a bridge without a rule is deleted once its last port is gone, which may be the VLAN interface of a PF.
    bridges_converged = _converge_bridges(policy, host)
    states = sorted(scheduler.pfs.values(), key=lambda state: state.address)
    pfs = tuple(map(pf_status, states))
    if as_json:
        print_json(Apply(pfs))
    if policy.guest:
        print("guests are started by the service: systemctl start vfagent", file=sys.stderr)
    if not policy.files:
        print(NO_POLICY, file=sys.stderr)
    elif all(state.phase is Phase.UNMANAGED for state in states):
        print(NOTHING_MATCHES, file=sys.stderr)
    _report_phases(states)
    remaining = {pf.phase for pf in pfs} - set(PFS_DONE)
    if not bridges_converged or remaining - {Phase.DEFERRED}:
        return Exit.NOT_CONVERGED
    return Exit.REFUSED if remaining else Exit.OK


def _lock(state: State) -> int:
    """Two at once would undo each other's work; this also keeps the service from starting."""
    try:
        return take_lock(state.run)
    except BlockingIOError:
        raise another_runs() from None


def _converge_bridges(policy: Policy, host: Host) -> bool:
    """Whether the policy's bridges are as it says now."""
    result = converge_bridges(policy, host)
    for text in (*result.done, *result.problems):
        print(f"bridges: {text}", file=sys.stderr)
    return not result.problems


def _finished(scheduler: Scheduler, started: float) -> bool:
    if not scheduler.idle:
        return all(_hangs(state) for state in scheduler.pfs.values() if state.reconciling or state.request.dirty)
    states = scheduler.pfs.values()
    waiting = any(state.phase is Phase.WAITING for state in states)
    in_grace = any(state.grace.ends for state in states)
    return not waiting or (time.monotonic() - started > _GRACE_S and not in_grace)


def _hangs(state: PfState) -> bool:
    """Whether nothing comes of waiting for it here. Where the kernel hangs in another PF, that may be for hours."""
    busy = state.kernel_busy is not None and state.kernel_busy.hangs
    return state.stuck or busy or state.retries.suspended is not None


def _report_phases(states: list[PfState]) -> None:
    for state in states:
        name = state.pf.name if state.pf else state.address
        if state.phase is not Phase.UNMANAGED:
            print(f"{name}: {state.phase}", file=sys.stderr)
        if state.kernel_busy:
            print(f"  {state.kernel_busy.text}", file=sys.stderr)
        for deferred in state.plan.deferred:
            print(printable(f"  {deferred.step.describe()} ({deferred.reason}): {deferred.blocker}"), file=sys.stderr)
