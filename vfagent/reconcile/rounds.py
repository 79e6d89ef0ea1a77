# SPDX-License-Identifier: Apache-2.0
"""One look at one PF: rounds of observe, match, plan, execute, until nothing is left to do. Runs in a worker."""

import contextlib
import time
from dataclasses import field, replace

from vfagent.frozen import frozen
from vfagent.kernel.protocols import Host
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Pf
from vfagent.model.pci import PciAddress
from vfagent.plan.planner import Plan, plan_leftovers, plan_pf
from vfagent.plan.steps import SetEswitch, SetNumvfs, Step
from vfagent.plan.vf import Planned, believed
from vfagent.policy.host_network import nothing_desired
from vfagent.policy.match import HostIdentity, desired_pf, may_match_later
from vfagent.policy.types import Policy
from vfagent.reconcile.driver_state import before_steps
from vfagent.reconcile.observe import observe_pf
from vfagent.reconcile.observe_network import with_network
from vfagent.reconcile.parallel import run_plan
from vfagent.reconcile.reports import Emit, Failure, Finished, Observed
from vfagent.store.state import State

# Create, configure, and one to see that it holds; more means that somebody else is at it too.
MOST_ROUNDS = 6
_PATIENCE_S = 10.0  # with a release of the PF, which then finds it marked
_LOOPBACK = 1  # LOOPBACK_IFINDEX


@frozen
class Suspended:
    """What failed too often to be tried again: the steps that were not done, and the whole plan they were part of."""

    remaining: tuple[Planned, ...] = ()
    plan: tuple[Planned, ...] = ()

    def covers(self, steps: tuple[Planned, ...]) -> bool:
        """Whether this is what is left of that plan, or all of it again: steps before the bad one may count as done
        each time, and not hold."""
        return bool(steps) and steps in (self.remaining, self.plan)


@frozen
class Task:
    """What a look needs to know."""

    address: PciAddress
    policy: Policy
    identity: HostIdentity
    driver_state: DriverState = field(default_factory=DriverState)
    dry: bool = False
    suspended: Suspended = Suspended()


def deadline_s(step: Step) -> float:
    """How long a step may take before its worker is given up.

    A removal sleeps for a second in the kernel; drivers were seen to take 65 s to make 125 VFs, 22 s for 64.
    """
    match step:
        case SetNumvfs(count=0):
            return 60.0
        case SetNumvfs():
            return 30.0 + step.count
        case SetEswitch():
            return 180.0  # ConnectX-6 Lx took 65 s for 125 VFs
        case _:
            return 30.0


def converge(task: Task, host: Host, state: State, emit: Emit) -> None:
    if task.dry:
        _converge(task, host, state, emit)
        return
    with state.to_itself(task.address, _PATIENCE_S):
        _converge(task, host, state, emit)


def _converge(task: Task, host: Host, state: State, emit: Emit) -> None:
    driver_state, failures, warnings = task.driver_state, list[Failure](), list[str]()
    before: tuple[Planned, ...] = ()
    for number in range(1, MOST_ROUNDS + 1):
        began = time.monotonic()
        looked = replace(look(task, host, driver_state, number), began=began)
        if looked.pf is not None:
            driver_state = believed(driver_state.for_pf(looked.pf), looked.pf)
        emit(looked)
        steps = looked.plan.steps
        if task.dry or not steps or task.suspended.covers(steps) or task.address in state.released():
            break
        if steps == before:
            failures.append(_not_held(steps))
            break
        warnings += _keep_baseline(state, looked)
        driver_state = _remember(state, task.address, before_steps(driver_state, looked.plan), driver_state)
        driver_state, failed = run_plan(looked.plan, host, driver_state, emit)
        failures += failed
        if failed:
            break
        before = steps
    emit(Finished(driver_state, tuple(failures), tuple(dict.fromkeys(warnings)), time.monotonic()))


def warm_up(host: Host) -> None:
    """What a look begins with, of the loopback device: so its code and data are at hand when there is a task."""
    with contextlib.suppress(OSError):
        host.rtnl.link(_LOOPBACK, vfs=True)
        host.udev.properties("net", "lo")


def look(task: Task, host: Host, driver_state: DriverState, number: int = 1) -> Observed:
    """One observation and what is to be done about it, without doing it."""
    pf = observe_pf(host, task.address)
    if pf is None:
        return Observed(number, None, None, Plan())
    desired = desired_pf(task.policy, pf, task.identity)
    driver_state = believed(driver_state.for_pf(pf), pf)
    pf = with_network(host, pf, desired, driver_state)
    if desired is None:
        return Observed(number, pf, None, _leftovers(task, pf, driver_state), rule_pending=_rule_pending(task, pf))
    return Observed(number, pf, desired, plan_pf(desired, pf, driver_state, task.suspended.remaining))


def _leftovers(task: Task, pf: Pf, driver_state: DriverState) -> Plan:
    """No rule is for it by now. Without a policy that could be read, nobody has said so."""
    if not task.policy.digest or pf.network is None:
        return Plan()
    return plan_leftovers(nothing_desired(task.policy, pf.address), pf, driver_state)


def _rule_pending(task: Task, pf: Pf) -> bool:
    complete = pf.driver is not None and (pf.netdev is not None or not pf.is_nic)
    if complete or (pf.initialized and pf.driver is None):
        return False
    return any(may_match_later(rule.match, pf, task.identity) for rule in task.policy.pf)


def _not_held(steps: tuple[Planned, ...]) -> Failure:
    first = steps[0]
    text = f"{first.step.pf}: {first.step.describe()}: was accepted, but does not hold: {first.reason}"
    return Failure(first.step.describe(), text, hint="another program may be changing it back")


def _keep_baseline(state: State, looked: Observed) -> list[str]:
    if looked.pf is None:
        return []
    try:
        state.keep_baseline(looked.pf)
    except OSError as error:
        return [f"{looked.pf.address}: cannot store what the PF was before: {error.strerror}; release will not know it"]
    return []


def _remember(state: State, address: PciAddress, driver_state: DriverState, before: DriverState) -> DriverState:
    if driver_state != before:
        with contextlib.suppress(OSError):  # without a disk nothing is left to be believed
            state.keep_driver_state(address, driver_state)
    return driver_state
