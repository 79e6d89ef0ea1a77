# SPDX-License-Identifier: Apache-2.0
"""One look at one PF: rounds of observe, match, plan, execute, until nothing is left to do. Runs in a worker."""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from vfagent.errors import FewerError, RefusedError, VfagentError
from vfagent.execute import configure_together, execute
from vfagent.host.host import Host
from vfagent.host.state import State
from vfagent.learnt import before_steps, learn
from vfagent.model.desired import DesiredPf
from vfagent.model.inventory import Pf
from vfagent.model.memory import PfMemory, StepResult
from vfagent.model.pci import PciAddress
from vfagent.observe import observe_pf
from vfagent.observe_network import with_network
from vfagent.plan.network_steps import SetEswitch
from vfagent.plan.planner import Chain, Plan, plan_leftovers, plan_pf
from vfagent.plan.steps import ConfigureVf, SetNumvfs, Step
from vfagent.plan.vf import Planned, believed, supported
from vfagent.policy.legs import nothing_wanted
from vfagent.policy.match import HostIdentity, desired_pf, may_match_later
from vfagent.policy.types import Policy

# Create, configure, and one to see that it holds; more means that somebody else is at it too.
MOST_ROUNDS = 6
_LOOPBACK = 1  # LOOPBACK_IFINDEX
_TOGETHER = 8  # VFs set by one message: the host's other links wait for the rtnl lock meanwhile


@dataclass(frozen=True)
class Failure:
    step: str
    text: str
    hint: str | None = None
    retryable: bool = True
    refused: bool = False


@dataclass(frozen=True)
class Looked:
    """The PF as observed in a round, what the policy wants of it, and the plan."""

    round: int
    pf: Pf | None
    desired: DesiredPf | None
    plan: Plan
    awaited: bool = False  # no rule matches yet, but one may when the PF's driver and netdev are there
    began: float = 0.0  # the round, by CLOCK_MONOTONIC, which is the same in every process


@dataclass(frozen=True)
class StepStarted:
    step: Step
    reason: str
    at: float  # CLOCK_MONOTONIC


@dataclass(frozen=True)
class StepEnded:
    step: Step
    at: float
    failure: Failure | None = None


@dataclass(frozen=True)
class Finished:
    memory: PfMemory
    failures: tuple[Failure, ...] = ()
    warnings: tuple[str, ...] = ()
    ended: float = 0.0


Report = Looked | StepStarted | StepEnded | Finished
Emit = Callable[[Report], None]


@dataclass(frozen=True)
class Task:
    """What a look needs to know. `known_bad`: steps that failed too often to be tried again."""

    address: PciAddress
    policy: Policy
    identity: HostIdentity
    memory: PfMemory = field(default_factory=PfMemory)
    dry: bool = False
    known_bad: tuple[Planned, ...] = ()


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
    memory, failures, warnings = task.memory, list[Failure](), list[str]()
    before: tuple[Planned, ...] = ()
    for number in range(1, MOST_ROUNDS + 1):
        began = time.monotonic()
        looked = replace(look(task, host, memory, number), began=began)
        if looked.pf is not None:
            memory = believed(memory.for_pf(looked.pf), looked.pf)
        emit(looked)
        steps = looked.plan.steps
        if task.dry or not steps or steps == task.known_bad:
            break
        if steps == before:
            failures.append(_not_held(steps))
            break
        warnings += _keep_baseline(state, looked)
        memory = _remember(state, task.address, before_steps(memory, looked.plan), memory)
        memory, failed = run_plan(looked.plan, host, memory, emit)
        failures += failed
        if failed:
            break
        before = steps
    emit(Finished(memory, tuple(failures), tuple(dict.fromkeys(warnings)), time.monotonic()))


def rehearse(host: Host) -> None:
    """What a look begins with, of the loopback device: so its code and data are at hand when there is a task."""
    with contextlib.suppress(OSError):
        host.rtnl.link(_LOOPBACK, vfs=True)
        host.udev.properties("net", "lo")


def look(task: Task, host: Host, memory: PfMemory, number: int = 1) -> Looked:
    """One observation and what is to be done about it, without doing it."""
    pf = observe_pf(host, task.address)
    if pf is None:
        return Looked(number, None, None, Plan())
    desired = desired_pf(task.policy, pf, task.identity)
    memory = believed(memory.for_pf(pf), pf)
    pf = with_network(host, pf, desired, memory)
    if desired is None:
        return Looked(number, pf, None, _leftovers(task, pf, memory), awaited=_awaited(task, pf))
    return Looked(number, pf, desired, plan_pf(desired, pf, memory, task.known_bad))


def _leftovers(task: Task, pf: Pf, memory: PfMemory) -> Plan:
    """No rule is for it by now. Without a policy that could be read, nobody has said so."""
    if not task.policy.digest or pf.network is None:
        return Plan()
    return plan_leftovers(nothing_wanted(task.policy, pf.address), pf, memory)


def _awaited(task: Task, pf: Pf) -> bool:
    complete = pf.driver is not None and (pf.netdev is not None or not pf.is_nic)
    if complete or (pf.settled and pf.driver is None):
        return False
    return any(may_match_later(rule.match, pf, task.identity) for rule in task.policy.pf)


def _not_held(steps: tuple[Planned, ...]) -> Failure:
    first = steps[0]
    text = f"{first.step.pf}: {first.step.describe()}: was accepted, but does not hold: {first.reason}"
    return Failure(first.step.describe(), text, hint="another program may be changing it back")


def _keep_baseline(state: State, looked: Looked) -> list[str]:
    if looked.pf is None:
        return []
    try:
        state.keep_baseline(looked.pf)
    except OSError as error:
        return [f"{looked.pf.address}: cannot store what the PF was before: {error.strerror}; release will not know it"]
    return []


def _remember(state: State, address: PciAddress, memory: PfMemory, before: PfMemory) -> PfMemory:
    if memory != before:
        with contextlib.suppress(OSError):  # without a disk nothing is left to be believed
            state.keep_memory(address, memory)
    return memory


def run_plan(plan: Plan, host: Host, memory: PfMemory, emit: Emit) -> tuple[PfMemory, list[Failure]]:
    """The stages until one fails; then the host's own network, whose chains have nothing to do with each other."""
    failures: list[Failure] = []
    for stage in plan.stages:
        memory, failures = _run_stage(stage, host, memory, emit)
        if failures:
            break
    for chain in plan.apart:
        memory, more = _run_stage((chain,), host, memory, emit)
        failures = failures + more
    return memory, failures


def run_steps(steps: tuple[Step, ...], host: Host, emit: Emit) -> None:
    """One after the other, outside of a plan. Raises the first failure's VfagentError."""
    for step in steps:
        emit(StepStarted(step, "as it was found", time.monotonic()))
        execute(step, host)
        emit(StepEnded(step, time.monotonic()))


class _Lane(threading.Thread):
    """One chain of a stage. A chain ends at its first failure; the others go on."""

    def __init__(self, chain: Chain, host: Host, memory: PfMemory, emit: Emit) -> None:
        super().__init__(daemon=True)
        self.chain, self.host, self.memory, self.emit = chain, host, memory, emit
        self.results: list[tuple[Step, StepResult]] = []
        self.failures: list[Failure] = []

    def run(self) -> None:
        for group in _groups(self.chain):
            if not self._configured_together(group) and not self._run_singly(group):
                return

    def _run_singly(self, group: Chain) -> bool:
        for planned in group:
            step = _less_unsupported(planned.step, self.memory)
            failure = self._execute(step, planned.reason) if step else None
            # A VF that refuses a setting does not keep the others from theirs.
            if failure and not isinstance(step, ConfigureVf):
                return False
        return True

    def _configured_together(self, group: Chain) -> bool:
        asked = ((_less_unsupported(planned.step, self.memory), planned.reason) for planned in group)
        items = [(step, reason) for step, reason in asked if isinstance(step, ConfigureVf)]
        if len(items) < 2:
            return False
        for step, reason in items:
            self.emit(StepStarted(step, reason, time.monotonic()))
        if not configure_together(tuple(step for step, _ in items), self.host):
            return False
        for step, _ in items:
            self._keep(step, StepResult(applied=step.settings))
            self.emit(StepEnded(step, time.monotonic()))
        return True

    def _keep(self, step: Step, result: StepResult) -> None:
        self.results.append((step, result))
        self.memory = learn(self.memory, step, result)

    def _execute(self, step: Step, reason: str) -> Failure | None:
        failure = None
        self.emit(StepStarted(step, reason, time.monotonic()))
        try:
            self._keep(step, execute(step, self.host))
        except VfagentError as error:
            if isinstance(error, FewerError):
                self._keep(step, StepResult(made=error.made))
            refused = isinstance(error, RefusedError)
            failure = Failure(step.describe(), str(error), error.hint, error.retryable, refused)
            self.failures.append(failure)
        self.emit(StepEnded(step, time.monotonic(), failure))
        return failure


def _groups(chain: Chain) -> Iterator[Chain]:
    """The settings of VFs that follow one another can travel together; any other step goes alone."""
    for settings, items in itertools.groupby(chain, lambda planned: isinstance(planned.step, ConfigureVf)):
        run, size = tuple(items), _TOGETHER if settings else 1
        yield from (run[at : at + size] for at in range(0, len(run), size))


def _less_unsupported(step: Step, memory: PfMemory) -> Step | None:
    """What one VF of a card was refused for good is not asked for on the next."""
    if not isinstance(step, ConfigureVf):
        return step
    settings = supported(step.settings, memory)
    return None if settings.empty else replace(step, settings=settings)


def _run_stage(stage: tuple[Chain, ...], host: Host, memory: PfMemory, emit: Emit) -> tuple[PfMemory, list[Failure]]:
    """The chains at once: a sysfs bind goes on while the rtnl lock is held, by a port that comes up for 0.6 s."""
    lanes = [_Lane(chain, host, memory, emit) for chain in stage]
    for lane in lanes[1:]:
        lane.start()
    lanes[0].run()
    for lane in lanes[1:]:
        lane.join()
    for lane in lanes:
        for step, result in lane.results:
            memory = learn(memory, step, result)
    return memory, [failure for lane in lanes for failure in lane.failures]
