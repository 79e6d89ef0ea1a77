# SPDX-License-Identifier: Apache-2.0
"""The scheduler on the fake kernel: in virtual time, and with reconciles that run in this process."""

import asyncio
import selectors
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.model.agent import IDENTITY
from tests.model.kernel import Kernel
from tests.model.process import Fault, Process, no_fault
from tests.model.stored import MemoryState
from vfagent.model.pci import PciAddress
from vfagent.policy.types import Policy
from vfagent.process.places import Places
from vfagent.process.workers import StuckError
from vfagent.reconcile import scheduler as scheduler_module
from vfagent.reconcile.pf_state import PfState
from vfagent.reconcile.rounds import Task
from vfagent.reconcile.scheduler import Scheduler

HOUR_S = 3600.0
_REPORT_S = 0.05


class _NoWait(selectors.DefaultSelector):
    """Nothing is waited for: the clock goes on by as much."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0.0
        return super().select(0.0)


@dataclass(slots=True)
class FakeWorkers:
    """Instead of processes. `hangs`: whose reconciles never return; `after_report`: called after each report."""

    places: Places = field(default_factory=lambda: Places(8))
    hangs: set[PciAddress] = field(default_factory=set)
    after_report: Callable[[PciAddress, Any], None] = lambda address, report: None

    async def stream(self, child: "FakeWorker", silence_s: Callable[[], float]) -> AsyncGenerator[Any, None]:
        try:
            if child.task.address in self.hangs:
                await asyncio.sleep(silence_s())
                raise StuckError(silence_s(), asyncio.get_running_loop().create_future())
            for report in child.reports():
                yield report
                self.after_report(child.task.address, report)
                await asyncio.sleep(_REPORT_S)
        finally:
            self.places.give()


@dataclass(slots=True)
class FakeWorker:
    task: Task
    body: Callable[[Task, Callable[[Any], None]], None]

    def reports(self) -> list[Any]:
        reports = list[Any]()
        self.body(self.task, reports.append)
        return reports


class FakeStandby:
    def __init__(self, _workers: object, body: Any, *_: object, **__: object) -> None:
        self._body = body

    def begin(self, task: Task) -> FakeWorker:
        return FakeWorker(task, self._body)

    def renew_now(self) -> None:
        pass

    def stop(self) -> None:
        pass


class Service:
    """The scheduler of a host."""

    def __init__(self, kernel: Kernel, policy: Policy, fault: Fault) -> None:
        self.kernel, self.workers = kernel, FakeWorkers()
        host = Process(kernel, fault=fault).host()
        workers: Any = self.workers
        self.scheduler = Scheduler(host, MemoryState(), IDENTITY, policy, workers, lambda state: None)

    def adopt(self, address: PciAddress) -> None:
        """A worker that was started before there was a loop."""
        task = Task(address, self.scheduler.policy, IDENTITY, self.pf(address).driver_state)
        begun: Any = self.scheduler.standby.begin(task)
        self.scheduler.adopt({address: begun})

    def pf(self, address: PciAddress) -> PfState:
        return self.scheduler.pfs[address]


def serve(
    kernel: Kernel, policy: Policy, body: Callable[[Service], Awaitable[None]], *, fault: Fault = no_fault
) -> None:
    selector = _NoWait()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]

    async def main() -> None:
        service = Service(kernel, policy, fault)
        await body(service)
        await service.scheduler.stop(1.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduler_module, "StandbyWorker", FakeStandby)
        try:
            loop.run_until_complete(main())
        finally:
            loop.close()
