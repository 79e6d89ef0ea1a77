# SPDX-License-Identifier: Apache-2.0
"""A scheduler on a host made of files, and means to wait for its results."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from tests.host.fake_kernel import FakeKernel
from tests.host.leaks import run_to_end
from tests.host.waiting import until
from vfagent.model.pci import PciAddress
from vfagent.model.status import Phase
from vfagent.policy.match import HostIdentity
from vfagent.process import worker
from vfagent.process.workers import DYING_S, Workers
from vfagent.reconcile.pf_state import PfState
from vfagent.reconcile.scheduler import Scheduler
from vfagent.store.policy_files import load
from vfagent.store.state import State

PF = PciAddress("0000:01:00.0")
SIBLING = PciAddress("0000:01:00.1")
OTHER = PciAddress("0000:02:00.0")
NUMVFS = "sriov_numvfs"
POLICY = """
[[pf]]
name = "all"
match = { driver = "igb" }
vfs = 2

[[pf.vf]]
index = "*"
driver = "vfio-pci"
"""
VLAN_POLICY = POLICY + "vlan = 10\n"


class Rig:
    """A scheduler on a host, and means to wait for its results."""

    def __init__(self, kernel: FakeKernel, workers: Workers) -> None:
        self.kernel = kernel
        self.state = State(kernel.tree.root)
        self.broken = False  # the next report cannot be taken
        self.phases: dict[str, list[Phase]] = {}
        identity = HostIdentity(hostname="host", machine_id="0" * 32)
        policy = load(kernel.tree.root)
        self.scheduler = Scheduler(kernel.host, self.state, identity, policy, workers, self._changed)

    def _changed(self, state: PfState) -> None:
        self.phases.setdefault(state.address, []).append(state.phase)
        if self.broken and state.reconciling:
            self.broken = False
            raise RuntimeError("a bug")

    def pf(self, address: PciAddress = PF) -> PfState:
        return self.scheduler.pfs[address]

    def mark_dirty(self, *addresses: PciAddress) -> None:
        for address in addresses:
            self.scheduler.mark_dirty(address)

    async def until(self, condition: Callable[[], bool], *, within_s: float = 10.0) -> None:
        await until(condition, lambda: list(self.scheduler.pfs.values()), within_s=within_s)

    async def reconciled_again(self, address: PciAddress = PF) -> None:
        """After an event, to the end of the reconcile that it causes."""
        rounds = self.pf(address).progress.rounds
        self.mark_dirty(address)
        await self.until(lambda: self.pf(address).progress.rounds > rounds and not self.pf(address).reconciling)

    async def until_phase(self, phase: Phase, *addresses: PciAddress) -> None:
        await self.until(lambda: all(self.pf(pf).phase is phase and not self.pf(pf).reconciling for pf in addresses))

    async def converged(self, *addresses: PciAddress) -> None:
        self.mark_dirty(*addresses)
        await self.until_phase(Phase.CONVERGED, *addresses)

    async def idle(self) -> None:
        await self.until(lambda: self.scheduler.idle)


def converge(
    kernel: FakeKernel,
    body: Callable[[Rig], Awaitable[None]],
    *,
    speed: float = 1.0,
    most: int = worker.MOST,
    dying_s: float = DYING_S,
) -> None:
    """`speed`: how many seconds of the event loop pass in one; `most`: workers at once; `dying_s`: after SIGKILL."""

    async def run() -> None:
        if speed != 1.0:
            speed_up(speed)
        rig = Rig(kernel, Workers(most=most, dying_s=dying_s))
        await body(rig)
        await rig.scheduler.stop(within_s=10.0)
        assert not rig.scheduler.working, "a worker does not exit"

    run_to_end(run())


def speed_up(speed: float) -> None:
    """Make the loop's clock run faster, so that tests can wait for long delays."""
    loop = asyncio.get_running_loop()
    select = loop._selector.select  # type: ignore[attr-defined]
    loop._selector.select = lambda timeout: select(timeout and timeout / speed)  # type: ignore[attr-defined]
    loop.time = lambda: time.monotonic() * speed  # type: ignore[method-assign]
