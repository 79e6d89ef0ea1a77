# SPDX-License-Identifier: Apache-2.0
"""Guests start although D-Bus, fork or KVM fails, or comes late."""

import asyncio
import errno
import json
import os
import socket
from collections.abc import Callable
from functools import partial

import pytest

from tests.host.fake_ipxe import fake_ipxe
from tests.host.fake_kernel import FakeKernel
from tests.host.fake_systemd import BEGUN, FAULTS, fake_systemd
from tests.host.guest_rig import (
    PF,
    POLICY,
    ROM,
    Run,
    Running,
    bus,
    kernel,
    run,
    runs,
    started,
    udev_is_busy,
)
from tests.host.leaks import run_to_end
from tests.host.test_units import calls
from tests.host.tree import put
from vfagent.kernel.udev import QUEUE
from vfagent.process import worker
from vfagent.process.worker import Send, Worker
from vfagent.store.guest_records import GuestRecords, Record

__all__ = ["bus", "kernel", "run"]

CAN_VIRTUALIZE = "cpu:type:x86,ven0000fam0006mod008F:feature:,0000,0001,0085,0086\n"


@pytest.mark.parametrize("fault", ["refused", "unanswered", "lost"])
def test_a_guest_starts_once_when_any_bus_call_fails_once(
    kernel: FakeKernel, run: Run, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr("vfagent.systemd.units._REPLY_S", 0.3)
    monkeypatch.setattr("vfagent.guests.unit_monitor._REGISTER_S", 0.3)
    members = ("ListUnitsByPatterns", "StartTransientUnit", "Get", "RegisterMachine")
    script = kernel.tree.root / FAULTS
    script.write_text(json.dumps(dict.fromkeys(members, fault)))
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await agent.until(lambda: json.loads(script.read_text()) == {} and agent.phase() == "running")
        os.kill(agent.pid(), 0)

    run(story)
    assert (kernel.tree.root / BEGUN).read_text() == "vfagent-guest-x.service\n"


def test_a_guest_starts_when_fork_fails_now_and_then(
    kernel: FakeKernel, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To list units, to try KVM, to build its ROM and to start it: the first attempt of each finds no process."""
    refused = set[str]()

    original = worker.start

    def start(body: Callable[[Send], None], *, close: tuple[int, ...] = ()) -> Worker:
        caller = body.args[0].__qualname__.split(".")[0] if isinstance(body, partial) else ""
        if caller and caller not in refused:
            refused.add(caller)
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return original(body, close=close)

    monkeypatch.setattr(worker, "start", start)
    monkeypatch.setattr("vfagent.guests.unit_monitor._NO_BUS_S", (0.1,))
    monkeypatch.setattr("vfagent.guests.kvm._AGAIN_S", (0.1, 0.1))
    monkeypatch.setattr("vfagent.guests.roms._AGAIN_S", 0.1)
    (kernel.tree.root / "sys/class/misc/kvm").mkdir(parents=True)
    kernel.tree.policy(ROM)
    fake_ipxe(kernel.tree.root / "usr/src/ipxe")
    kernel.tree.add_pf(PF)
    run(runs)
    assert sorted(refused) == ["Guests", "KvmTrial", "Roms", "UnitMonitor"]


def test_a_guest_starts_when_kvm_cannot_be_tried(
    kernel: FakeKernel, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The fake systemd does not know the trial's unit, like a systemd that does not answer for it."""
    monkeypatch.setattr("vfagent.guests.kvm._AGAIN_S", (0.1, 0.1))
    (kernel.tree.root / "sys/class/misc/kvm").mkdir(parents=True)
    kernel.tree.add_pf(PF)
    run(runs)
    probes = [body[0] for body in calls(kernel.tree.root / "calls", "StopUnit") if "probe" in body[0]]
    assert len(probes) == 3
    assert [record.levelname for record in caplog.records if "KVM" in record.message] == ["WARNING", "ERROR"]
    assert json.loads((kernel.tree.root / "run/vfagent/kvm.json").read_text()) is False


def test_a_guest_waits_until_udev_has_loaded_kvm(kernel: FakeKernel, run: Run) -> None:
    """At a boot a NIC's VFs may be ready seconds before kvm_intel is loaded. Only a host without KVM emulates."""
    kernel.tree.add_pf(PF)
    udev_is_busy(kernel)
    put(kernel.tree.root / "sys/devices/system/cpu/modalias", CAN_VIRTUALIZE)

    async def story(agent: Running) -> None:
        await asyncio.sleep(1.5)
        assert not started(kernel)
        (kernel.tree.root / QUEUE).unlink()
        await runs(agent)

    run(story)


def test_a_guest_does_not_wait_for_kvm_for_ever(kernel: FakeKernel, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfagent.guests.kvm._LOADED_S", 1.0)
    kernel.tree.add_pf(PF)
    udev_is_busy(kernel)
    put(kernel.tree.root / "sys/devices/system/cpu/modalias", CAN_VIRTUALIZE)
    run(runs)


def test_without_virtualization_a_guest_does_not_wait_for_kvm(
    kernel: FakeKernel, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vfagent.guests.kvm._LOADED_S", 60.0)
    kernel.tree.add_pf(PF)
    udev_is_busy(kernel)
    put(kernel.tree.root / "sys/devices/system/cpu/modalias", CAN_VIRTUALIZE.replace(",0085,", ","))
    run(runs)


def test_guests_wait_for_the_bus_and_start_when_it_is_up(kernel: FakeKernel) -> None:
    kernel.tree.add_pf(PF)

    async def story() -> None:
        agent = Running(kernel, f"unix:path={kernel.tree.root}/bus")
        agent.reconcile()
        await agent.until(lambda: agent.scheduler.pfs and agent.scheduler.idle)
        await asyncio.sleep(0.3)
        assert agent.guests.status() == ()
        with fake_systemd(kernel.tree.root):
            await runs(agent)
            await agent.stop()

    run_to_end(story())


@pytest.mark.parametrize("what", ["KVM", "ROM"])
def test_a_bus_socket_that_nobody_serves_decides_nothing(
    kernel: FakeKernel, what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As dbus.socket leaves its path where dbus.service failed too often at the boot."""
    monkeypatch.setattr("vfagent.guests.kvm._AGAIN_S", (0.05, 0.05))
    monkeypatch.setattr("vfagent.guests.roms._NOT_BEGUN_S", 0.05)
    if what == "KVM":
        (kernel.tree.root / "sys/class/misc/kvm").mkdir(parents=True)
    else:
        kernel.tree.policy(ROM)
        fake_ipxe(kernel.tree.root / "usr/src/ipxe")
    kernel.tree.add_pf(PF)
    path = kernel.tree.root / "bus"

    async def story() -> None:
        agent = Running(kernel, f"unix:path={path}")
        agent.reconcile()
        await agent.until(lambda: agent.scheduler.pfs and agent.scheduler.idle)
        await asyncio.sleep(0.3)  # so that it has seen that there is no bus
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(str(path))
            await agent.until(lambda: what in caplog.text)
            await asyncio.sleep(1)  # twenty times the wait between two trials
        assert not (kernel.tree.root / "run/vfagent/kvm.json").exists()
        assert agent.phase() == "waiting"
        with fake_systemd(kernel.tree.root):  # in the place of what is there
            await runs(agent)
            await agent.stop()

    run_to_end(story())
    assert len([record for record in caplog.records if "cannot connect" in record.message]) == 1


@pytest.mark.parametrize(("recorded", "listings"), [(False, 0), (True, 1)])
def test_at_boot_units_are_listed_only_if_a_guest_may_already_run(
    kernel: FakeKernel, *, recorded: bool, listings: int
) -> None:
    kernel.tree.add_pf(PF)
    if recorded:
        GuestRecords(kernel.tree.root).keep("z", Record("rule"))

    async def story() -> None:
        agent = Running(kernel, f"unix:path={kernel.tree.root}/bus")
        agent.reconcile()
        await agent.until(lambda: agent.scheduler.pfs and agent.scheduler.idle)
        await asyncio.sleep(0.3)  # so that it has seen that there is no bus
        with fake_systemd(kernel.tree.root):
            await runs(agent)
            await agent.stop()

    run_to_end(story())
    members = [json.loads(line)[0] for line in (kernel.tree.root / "calls").read_text().splitlines()]
    assert members[: members.index("StartTransientUnit")].count("ListUnitsByPatterns") == listings


@pytest.mark.parametrize("folder", [".", "later"])
def test_waiting_for_the_bus_takes_no_worker(kernel: FakeKernel, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel.tree.add_pf(PF)
    bus, workers = kernel.tree.root / folder / "bus", list[Worker]()

    def counted(body: Callable[[Send], None], *, close: tuple[int, ...] = ()) -> Worker:
        workers.append(begin(body, close=close))
        return workers[-1]

    async def story() -> None:
        agent = Running(kernel, f"unix:path={bus}")
        agent.reconcile()
        await agent.until(lambda: agent.scheduler.pfs and agent.scheduler.idle)
        monkeypatch.setattr(worker, "start", counted)
        await asyncio.sleep(0.5)
        assert workers == []
        with fake_systemd(kernel.tree.root):
            if folder != ".":
                bus.parent.mkdir()
                bus.symlink_to("../bus")
            await agent.until(lambda: agent.phase() == "running")
            await agent.stop()

    begin = worker.start
    run_to_end(story())


def test_a_missing_bus_is_logged_once(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kernel.tree.add_pf(PF)
    monkeypatch.setattr("vfagent.guests.unit_monitor._BUS_S", 0.2)

    async def story() -> None:
        agent = Running(kernel, f"unix:path={kernel.tree.root}/bus")
        agent.reconcile()
        await agent.until(lambda: "does not exist" in caplog.text)
        agent.reconcile()
        await asyncio.sleep(0.5)
        await agent.stop()

    run_to_end(story())
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warned == [f"guests: waiting for D-Bus: {kernel.tree.root}/bus does not exist"]


def test_a_host_without_guests_calls_nothing_on_the_bus(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)
    kernel.tree.policy(POLICY.partition("[[guest]]")[0])

    async def story(agent: Running) -> None:
        await agent.until(lambda: agent.scheduler.pfs and agent.scheduler.idle)
        await asyncio.sleep(0.3)

    run(story)
    assert (kernel.tree.root / "calls").read_text() == ""
