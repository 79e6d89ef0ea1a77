# SPDX-License-Identifier: Apache-2.0
"""One reconcile of one PF: rounds of observe, match, plan, execute, until nothing is left to do. Runs in a worker."""

import contextlib
import time
from dataclasses import field, replace

from vfagent.frozen import frozen
from vfagent.kernel.protocols import Host
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Pf
from vfagent.model.network import HostNetwork
from vfagent.model.pci import PciAddress
from vfagent.plan.fdb import without_fdb
from vfagent.plan.no_netdev import netdev_may_come
from vfagent.plan.planner import Plan, plan_leftovers, plan_pf
from vfagent.plan.vf import Planned, believed
from vfagent.policy.host_network import nothing_desired
from vfagent.policy.match import HostIdentity, desired_pf, may_match_later
from vfagent.policy.types import Policy
from vfagent.reconcile.driver_state import before_steps
from vfagent.reconcile.observe import observe_pf
from vfagent.reconcile.observe_netdevs import with_port
from vfagent.reconcile.observe_network import with_network
from vfagent.reconcile.parallel import run_plan
from vfagent.reconcile.reports import Emit, Failure, Finished, Observed
from vfagent.store.state import State

# One to create, one to configure, one to see that it holds. More means that another program changes it too.
MOST_ROUNDS = 6
_RELEASE_WAIT_S = 10.0  # for a release of the PF to end; then the PF is found released
_LOOPBACK = 1  # LOOPBACK_IFINDEX


@frozen
class Suspended:
    """Steps that failed too often to be tried again, and the whole plan that they were part of."""

    remaining: tuple[Planned, ...] = ()
    plan: tuple[Planned, ...] = ()

    def covers(self, steps: tuple[Planned, ...]) -> bool:
        """Whether these are the remaining steps of that plan, or all of its steps: those before the one that fails may
        succeed each time and not hold. The FDB is not counted, and goes on."""
        steps = without_fdb(steps)
        return bool(steps) and steps in (without_fdb(self.remaining), without_fdb(self.plan))


@frozen
class Task:
    """What a worker needs to know."""

    address: PciAddress
    policy: Policy
    identity: HostIdentity
    driver_state: DriverState = field(default_factory=DriverState)
    dry: bool = False
    suspended: Suspended = Suspended()
    grace_over: bool = False  # a netdev that is not there by now is not waited for


def converge(task: Task, host: Host, state: State, emit: Emit) -> None:
    if task.dry:
        _converge(task, host, state, emit)
        return
    with state.to_itself(task.address, _RELEASE_WAIT_S):
        _converge(task, host, state, emit)


def _converge(task: Task, host: Host, state: State, emit: Emit) -> None:
    driver_state, failures, warnings = replace(task.driver_state, fdb_refusal=""), list[Failure](), list[str]()
    before: tuple[Planned, ...] = ()
    for number in range(1, MOST_ROUNDS + 1):
        began = time.monotonic()
        observed = replace(observe_and_plan(task, host, state, driver_state, number), began=began)
        if observed.pf is not None:
            driver_state = believed(driver_state.for_pf(observed.pf), observed.pf)
            wire = observed.pf.network.wire if observed.pf.network else frozenset[str]()
            driver_state = replace(driver_state, wire=wire)
        emit(observed)
        if task.suspended.covers(observed.plan.steps):
            observed = replace(observed, plan=_fdb_alone(observed.plan))
        steps = observed.plan.steps
        if task.dry or not steps or task.address in state.released():
            break
        if steps == before:
            if without_fdb(steps):
                failures.append(_not_held(steps))
                break
            driver_state = replace(driver_state, fdb_refusal="it accepted them, and does not have them")
            continue
        warnings += _keep_baseline(state, observed)
        driver_state = replace(driver_state, changed=True)
        driver_state = _store(state, task.address, before_steps(driver_state, observed), driver_state)
        assume_idle = observed.desired is not None and observed.desired.assume_idle
        driver_state, failed = run_plan(observed.plan, replace(host, assume_idle=assume_idle), driver_state, emit)
        failures += failed
        if failed:
            break
        before = steps
    emit(Finished(driver_state, tuple(failures), tuple(dict.fromkeys(warnings)), time.monotonic()))


def _fdb_alone(plan: Plan) -> Plan:
    rest = without_fdb(plan.steps)
    return replace(plan, batches=(), independent=(tuple(planned for planned in plan.steps if planned not in rest),))


def warm_up(host: Host) -> None:
    """Ask of the loopback device what a reconcile asks first, so that its code and data are loaded before a task."""
    with contextlib.suppress(OSError):
        host.rtnl.link(_LOOPBACK, vfs=True)
        host.udev.properties("net", "lo")


def observe_and_plan(task: Task, host: Host, state: State, driver_state: DriverState, number: int = 1) -> Observed:
    """One observation and its plan, which is not executed."""
    pf = observe_pf(host, task.address)
    if pf is None:
        return Observed(number, None, None, Plan())
    pf = replace(pf, netdev_pending=not task.grace_over and netdev_may_come(pf))
    desired = desired_pf(task.policy, pf, task.identity)
    pf = with_port(host, pf, desired.port if desired else None)
    if number == 1 and driver_state.changed and state.has_baseline_of_another(pf):  # later, what it changed itself
        driver_state = replace(driver_state, changed=False)
    driver_state = believed(driver_state.for_pf(pf), pf)
    pf = with_network(host, pf, desired, driver_state)
    if desired is None:
        plan = _plan_without_rule(task, pf, driver_state)
        pending = _rule_pending(task, pf)
        return Observed(number, pf, None, plan, rule_pending=pending, ifindexes=_ifindexes(pf))
    pf = replace(pf, assume_idle=desired.assume_idle)
    plan = plan_pf(desired, pf, driver_state, task.suspended.remaining)
    return Observed(number, pf, desired, plan, ifindexes=_ifindexes(pf))


def _plan_without_rule(task: Task, pf: Pf, driver_state: DriverState) -> Plan:
    """Remove what vfagent made on a PF that no rule matches any more. Without a readable policy nothing is removed."""
    if not task.policy.digest or pf.network is None:
        return Plan()
    return plan_leftovers(nothing_desired(task.policy, pf.address), pf, driver_state)


def _rule_pending(task: Task, pf: Pf) -> bool:
    incomplete = pf.netdev_pending if pf.driver else not (pf.initialized or task.grace_over)
    return incomplete and any(may_match_later(rule.match, pf, task.identity) for rule in task.policy.pf)


def _ifindexes(pf: Pf) -> frozenset[int]:
    own = {netdev.ifindex for netdev in pf.netdevs}
    network = pf.network or HostNetwork()
    related = {link.ifindex for link in network.links} | {link.ifindex for link in network.representors}
    return frozenset(own | related | {netdev.ifindex for vf in pf.vfs for netdev in vf.netdevs})


def _not_held(steps: tuple[Planned, ...]) -> Failure:
    first = steps[0]
    text = f"{first.step.pf}: {first.step.describe()}: the kernel accepted it, but it does not hold: {first.reason}"
    return Failure(first.step.KIND, text, hint="another program may be changing it back")


def _keep_baseline(state: State, observed: Observed) -> list[str]:
    if observed.pf is None:
        return []
    try:
        state.keep_baseline(observed.pf)
    except OSError as error:
        return [f"cannot store what the PF was before: {error.strerror}; vfagent release will not know it"]
    return []


def _store(state: State, address: PciAddress, driver_state: DriverState, before: DriverState) -> DriverState:
    if driver_state != before:
        with contextlib.suppress(OSError):  # without a disk nothing is read back either
            state.keep_driver_state(address, driver_state)
    return driver_state
