# SPDX-License-Identifier: Apache-2.0
"""A scheduler and its guests on a host made of files, with a fake systemd."""

from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.host.fake_kernel import FakeKernel
from tests.host.fake_systemd import fake_systemd
from tests.host.leaks import run_to_end
from tests.host.test_units import calls
from tests.host.tree import put
from tests.host.waiting import until
from vfagent.guests.lifecycle import Guests
from vfagent.kernel.udev import QUEUE, STORED
from vfagent.model.pci import PciAddress
from vfagent.model.status import GuestStatus
from vfagent.policy.match import HostIdentity
from vfagent.process.workers import Workers
from vfagent.reconcile.observe import pf_addresses
from vfagent.reconcile.scheduler import Scheduler
from vfagent.store.policy_files import load
from vfagent.store.state import State

PF = PciAddress("0000:01:00.0")
POLICY = """
[[pf]]
name = "a"
match = { driver = "igb" }
vfs = 2
[[pf.vf]]
index = "*"
driver = "vfio-pci"

[[guest]]
name = "x"
vfs = ["a:0"]
[guest.ipxe]
address = "dhcp"
"""
SECOND = '\n[[guest]]\nname = "y"\nvfs = ["a"]\n[guest.ipxe]\naddress = "dhcp"\n'
ROM = POLICY.replace("[[pf]]", '[agent]\nipxe_source = "/usr/src/ipxe"\n[[pf]]', 1) + 'loader = "rom"\n'


class Running:
    """A scheduler and its guests, as the agent has them."""

    def __init__(self, kernel: FakeKernel, bus: str) -> None:
        self.kernel, root = kernel, kernel.tree.root
        identity = HostIdentity("node1", "0123")
        workers = Workers()
        self.scheduler = Scheduler(kernel.host, State(root), identity, load(root), workers, lambda _: self.changed())
        self.guests = Guests(kernel.host, root, self.scheduler, workers, lambda: None, bus=bus)

    def changed(self) -> None:
        self.guests.consider_soon()

    def reconcile(self) -> None:
        for address in {*pf_addresses(self.kernel.host), *self.scheduler.pfs}:
            self.scheduler.mark_dirty(PciAddress(address), now=True)
        self.guests.consider_soon()

    def reload(self, policy: str) -> None:
        self.kernel.tree.policy(policy)
        self.scheduler.set_policy(load(self.kernel.tree.root))
        self.reconcile()

    def guest(self, name: str = "x") -> GuestStatus | None:
        return next((guest for guest in self.guests.status() if guest.name == name), None)

    def phase(self, name: str = "x") -> str | None:
        guest = self.guest(name)
        return guest.phase if guest else None

    def pid(self, name: str = "x") -> int:
        guest = self.guest(name)
        assert guest
        assert guest.pid
        return guest.pid

    async def until(self, condition: Callable[[], object]) -> None:
        await until(condition, lambda: (self.guests.status(), self.scheduler.pfs))

    async def stop(self) -> None:
        await self.guests.stop()
        await self.scheduler.stop(within_s=60.0)


Story = Callable[[Running], Coroutine[Any, Any, None]]
Run = Callable[[Story], None]


@pytest.fixture
def kernel(tmp_path: Path) -> FakeKernel:
    kernel = FakeKernel(tmp_path)
    kernel.tree.policy(POLICY)
    return kernel


@pytest.fixture
def bus(kernel: FakeKernel) -> Iterator[str]:
    with fake_systemd(kernel.tree.root) as (address, _):
        yield address


@pytest.fixture
def run(kernel: FakeKernel, bus: str) -> Run:
    """Runs a story with an agent of its own; the next story's agent finds what the first one left."""

    async def with_agent(story: Story) -> None:
        running = Running(kernel, bus)
        running.reconcile()
        await story(running)
        await running.stop()

    return lambda story: run_to_end(with_agent(story))


def started(kernel: FakeKernel) -> list[str]:
    return [body[0] for body in calls(kernel.tree.root / "calls", "StartTransientUnit")]


async def runs(agent: Running) -> None:
    await agent.until(lambda: agent.phase() == "running")


def started_by(kernel: FakeKernel) -> dict[str, Any]:
    [body] = calls(kernel.tree.root / "calls", "StartTransientUnit")
    return {name: value for name, (_, value) in body[2]}


def udev_is_busy(kernel: FakeKernel) -> None:
    """It has handled the PF."""
    for name in (QUEUE, f"{STORED}/+pci:{PF}"):
        put(kernel.tree.root / name, "")
