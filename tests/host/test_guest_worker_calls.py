# SPDX-License-Identifier: Apache-2.0
"""Calls in workers: on a host without free processes, and when the agent stops."""

import asyncio
import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.host.fake_kernel import FakeKernel
from tests.host.fake_systemd import fake_systemd
from tests.host.leaks import children, run_to_end
from tests.host.test_units import calls
from tests.host.tree import put
from tests.host.waiting import until
from vfagent.errors import VfagentError
from vfagent.guests.ipxe_images import IpxeImages
from vfagent.guests.numa_nodes import nodes_of
from vfagent.guests.spec.boot import Boot, Loader
from vfagent.guests.spec.numa import NumaNode
from vfagent.guests.worker_calls import Order, Outcome, WorkerCalls, start
from vfagent.kernel.sysfs import RootedSysfs
from vfagent.model.guest_unit import GuestVf, Property, UnitSpec
from vfagent.model.pci import PciAddress
from vfagent.policy.types import GuestRule, IpxeRule, KernelRule, NicRule
from vfagent.process import worker
from vfagent.process.workers import Workers
from vfagent.systemd.units import Systemd


def no_process_left() -> int:
    raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")


def slow(seconds: float) -> Callable[[], Outcome]:
    def call() -> Outcome:
        time.sleep(seconds)
        return Outcome()

    return call


def test_a_failed_fork_is_reported_and_the_next_call_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> list[Any]:
        worker_calls, outcomes = WorkerCalls(Workers()), list[Any]()
        with monkeypatch.context() as short:
            short.setattr(os, "fork", no_process_left)
            worker_calls.run(lambda: Outcome(rom="r"), outcomes.append, 5.0)
            assert not outcomes, "called back before run() has returned"
            await until(lambda: outcomes)
        worker_calls.run(lambda: Outcome(rom="r"), outcomes.append, 5.0)
        await until(lambda: len(outcomes) == 2)
        return outcomes

    short, done = run_to_end(scenario())
    assert (short.error, short.begun) == ("cannot start a worker: Resource temporarily unavailable", False)
    assert done == Outcome(rom="r")


def test_running_calls_end_with_the_agent() -> None:
    async def scenario() -> None:
        worker_calls = WorkerCalls(Workers())
        for _ in range(3):
            worker_calls.run(slow(60.0), print, 60.0)
        await asyncio.sleep(0.1)
        await worker_calls.stop()

    run_to_end(scenario())


def test_a_call_that_hangs_in_the_kernel_does_not_delay_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> float:
        worker_calls = WorkerCalls(Workers())
        with monkeypatch.context() as hung:
            hung.setattr(worker.Worker, "kill", lambda child: None)  # as for a process in D state
            for _ in range(3):
                worker_calls.run(slow(1.5), print, 60.0)
            await asyncio.sleep(0.1)
            began = time.monotonic()
            await worker_calls.stop()
            took = time.monotonic() - began
            await until(lambda: not children())
        return took

    assert run_to_end(scenario()) < 1.2


def test_no_call_begins_after_the_end() -> None:
    """What ends meanwhile, a timer or another call, may ask for one."""

    async def scenario() -> list[Outcome]:
        worker_calls, outcomes = WorkerCalls(Workers()), list[Outcome]()
        await worker_calls.stop()
        worker_calls.run(lambda: Outcome(rom="r"), outcomes.append, 5.0)
        return outcomes

    assert run_to_end(scenario()) == []


def test_a_tap_that_a_unit_has_open_is_left_alone(tmp_path: Path) -> None:
    """systemd may be about to restart it."""
    host = FakeKernel(tmp_path).host
    put(tmp_path / "usr/bin/qemu-system-x86_64", "")
    put(tmp_path / "k", "")
    rule = GuestRule(name="x", kernel=KernelRule(image="/k"), nic=(NicRule(bridge="br0"),))
    boot = Boot(Loader.KERNEL, kernel=rule.kernel)
    spec = UnitSpec("vfagent-guest-x.service", (Property("Environment", "as", ["VFAGENT_VFS="]),))
    with fake_systemd(tmp_path) as (bus, log):
        with Systemd(bus) as systemd:
            systemd.start(spec, 5)
        with pytest.raises(VfagentError, match="its unit is already active"):
            start(bus, Order(rule, (), boot, kvm=False, machine_id="0123", root=tmp_path), host)
        assert len(calls(log, "StartTransientUnit")) == 1


def test_the_nodes_of_vfs_are_read_with_what_they_have(tmp_path: Path) -> None:
    """An offline node has no folder, and a node without memory is in no list of those with some."""
    nodes = tmp_path / "sys/devices/system/node"
    for number, cpus in ((0, "0-3,8"), (1, "")):
        (nodes / f"node{number}").mkdir(parents=True)
        (nodes / f"node{number}/cpulist").write_text(f"{cpus}\n")
    (nodes / "has_memory").write_text("0-1\n")
    vfs = [
        GuestVf(PciAddress("0000:01:00.0"), index, PciAddress(f"0000:01:10.{index}"), 10 + index, node)
        for index, node in enumerate((1, 0, None, 2))
    ]
    expected = (NumaNode(0, 5, has_memory=True), NumaNode(1, 0, has_memory=True), NumaNode(2, 0, has_memory=False))
    assert nodes_of(vfs, RootedSysfs(tmp_path)) == expected


def test_images_that_a_new_policy_needs_are_read_after_those_that_are_being_read(tmp_path: Path) -> None:
    async def scenario() -> None:
        worker_calls, asked = WorkerCalls(Workers()), list[float]()
        images = IpxeImages(tmp_path, worker_calls, asked.append)
        bios, uefi = (GuestRule(name="x", ipxe=IpxeRule(), firmware=name) for name in ("bios", "uefi"))
        assert images.take((bios,)) is None
        await until(lambda: images.take((bios,)) is not None)
        asked.clear()
        images.refresh()
        images.take((bios,))
        assert images.take((uefi,)) is None
        await until(lambda: asked)
        assert images.take((uefi,)) is None
        await until(lambda: images.take((uefi,)) is not None)
        await worker_calls.stop()

    run_to_end(scenario())
