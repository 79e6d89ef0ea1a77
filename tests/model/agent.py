# SPDX-License-Identifier: Apache-2.0
"""vfagent on the fake kernel, over reconciles, restarts and policies, with the state that it keeps on disk."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.model import ledger
from tests.model.effects import Effect
from tests.model.kernel import Kernel, KernelHang
from tests.model.never import Violation
from tests.model.process import Fault, Kill, Killed, Process, no_fault
from tests.model.stored import MemoryState
from vfagent.model.driver_state import DriverState
from vfagent.model.pci import PciAddress
from vfagent.model.status import MOST_ATTEMPTS
from vfagent.model.vf_settings import ISOLATING, Attribute, VfSettings
from vfagent.plan.isolation import demanded
from vfagent.plan.planner import Plan
from vfagent.policy.match import HostIdentity, desired_pf, match_rule
from vfagent.policy.types import Policy
from vfagent.reconcile.observe import observe_pf
from vfagent.reconcile.release import release
from vfagent.reconcile.reports import Emit, Failure, Finished, Observed, Report
from vfagent.reconcile.rounds import Suspended, Task, converge

IDENTITY = HostIdentity("node1", "0123456789abcdef0123456789abcdef")


@dataclass(slots=True)
class Run:
    """One `converge`: what it observed, did and reported."""

    done: list[Effect] = field(default_factory=list)
    observations: list[Observed] = field(default_factory=list)
    finished: Finished | None = None

    @property
    def failures(self) -> tuple[Failure, ...]:
        return self.finished.failures if self.finished else ()

    @property
    def plan(self) -> Plan:
        return self.observations[-1].plan

    @property
    def killed(self) -> bool:
        return self.finished is None


def quiet(report: Report) -> None:
    pass


@dataclass(slots=True)
class Agent:
    kernel: Kernel
    policy: Policy
    state: MemoryState = field(default_factory=MemoryState)
    driver_state: dict[PciAddress, DriverState] = field(default_factory=dict)
    suspended: Suspended = Suspended()

    def restart(self, *, forget: bool) -> None:
        """A new process has the state on disk; after a boot (`forget`), /run is empty."""
        self.driver_state = (
            {} if forget else {pf.address: self.state.driver_state(pf.address) for pf in self.kernel.present()}
        )

    def converge(
        self,
        address: PciAddress,
        *,
        kill: Kill | None = None,
        fault: Fault = no_fault,
        watch: Emit = quiet,
        alone: bool = True,
        grace_over: bool = False,
    ) -> Run:
        """`alone`: no other program changes a VF's settings meanwhile. `grace_over`: it has waited for the netdev."""
        needed = self._isolation(address) if alone else {}
        process = Process(
            self.kernel, address, self._allows_management(address), isolation=needed, kill=kill, fault=fault
        )
        run = Run(process.done)
        if self.kernel.writer == address:
            return run  # it is stuck

        def emit(report: Report) -> None:
            watch(report)
            if isinstance(report, Observed):
                run.observations.append(report)
            elif isinstance(report, Finished):
                run.finished = report

        driver_state = self.driver_state.get(address) or DriverState(changed=address in self.state.baselines)
        task = Task(address, self.policy, IDENTITY, driver_state, suspended=self.suspended, grace_over=grace_over)
        _checked(lambda: converge(task, process.host(), self.state, emit))
        if run.finished:
            self.driver_state[address] = run.finished.driver_state
            self.state.keep_driver_state(address, run.finished.driver_state)
        return run

    def ten_minutes_pass(self, address: PciAddress) -> None:
        """The service tries refused isolation again."""
        if state := self.driver_state.get(address):
            kept = frozenset(Attribute) - ISOLATING
            self.driver_state[address] = state.without_refusals(keep=kept)

    def converge_all(self) -> dict[PciAddress, Run]:
        return {pf.address: self.converge(pf.address) for pf in self.kernel.present()}

    def settle(self, address: PciAddress) -> Run:
        """Reconcile as the service does: again after a failure, and while the plan waits for something."""
        for _ in range(MOST_ATTEMPTS):
            run = self.converge(address)
            if not run.failures and not run.plan.waiting:
                return run
            self.kernel.let_time_pass()
        return run

    def release(self, address: PciAddress, *, kill: Kill | None = None, fault: Fault = no_fault) -> Process:
        """Raises VfagentError as `vfagent release` does."""
        process = Process(self.kernel, address, allow_management=True, releasing=True, kill=kill, fault=fault)
        _checked(lambda: release(address, process.host(), self.state, quiet, force=False))
        return process

    def _isolation(self, address: PciAddress) -> dict[int, VfSettings]:
        pf = observe_pf(Process(self.kernel).host(), address)
        desired = desired_pf(self.policy, pf, IDENTITY) if pf else None
        return {vf.index: demanded(vf) for vf in desired.vfs} if desired else {}

    def _allows_management(self, address: PciAddress) -> bool:
        pf = observe_pf(Process(self.kernel).host(), address)
        rule = match_rule(self.policy, pf, IDENTITY) if pf else None
        return rule is not None and rule.allow_management


def _checked(body: Callable[[], None]) -> None:
    ledger.counted["processes"] += 1
    try:
        body()
    except Killed:
        ledger.counted["kills"] += 1
    except (Violation, KernelHang) as error:
        raise AssertionError(f"never: {error}") from error
