# SPDX-License-Identifier: Apache-2.0
"""Guests in order, stopped and started by hand, while systemd keeps a unit, or a VF is away."""

import asyncio

import pytest

from tests.host.fake_kernel import FakeKernel
from tests.host.fake_systemd import QUEUED
from tests.host.guest_rig import PF, POLICY, SECOND, Run, Running, bus, kernel, run, runs, started
from vfagent.model.guest_unit import Property, UnitSpec
from vfagent.systemd.units import Systemd

__all__ = ["bus", "kernel", "run"]


def test_a_guest_that_another_starts_after_is_stopped_and_started_again(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)
    nas = SECOND.replace('name = "y"', 'name = "nas"')
    kernel.tree.policy(POLICY.replace('vfs = ["a:0"]', 'vfs = ["a:0"]\nafter = ["nas"]') + nas)

    async def story(agent: Running) -> None:
        await runs(agent)
        assert await agent.guests.request("stop", "nas") is None
        assert agent.phase("nas") == "stopped"
        assert await agent.guests.request("start", "nas") is None
        assert agent.phase("nas") == "running"

    run(story)


def test_a_guest_that_a_unit_of_the_host_names_has_ended_when_it_is_inactive(
    kernel: FakeKernel, run: Run, bus: str
) -> None:
    """systemd keeps it loaded, and makes none of its name."""
    kernel.tree.add_pf(PF)
    backup = UnitSpec(
        "vfagent-guest-backup.service",
        (
            Property("Environment", "as", ["VFAGENT_VFS=0000:01:10.1"]),
            Property("After", "as", ["vfagent-guest-x.service"]),
        ),
    )

    async def story(agent: Running) -> None:
        await runs(agent)
        with Systemd(bus) as systemd:
            systemd.start(backup, 5)
        assert await agent.guests.request("stop", "x") is None
        assert agent.phase() == "stopped"
        assert "vfagent-guest-x.service" in str(await agent.guests.request("start", "x"))
        assert agent.guests.guests["x"].unit is None

    run(story)


def test_a_unit_whose_start_is_queued_is_starting(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await runs(agent)
        (kernel.tree.root / QUEUED).write_text("vfagent-guest-x.service")
        agent.guests.units.refresh()
        await agent.until(lambda: agent.phase() == "starting")
        (kernel.tree.root / QUEUED).unlink()
        await runs(agent)

    run(story)
    assert len(started(kernel)) == 1


def test_a_stop_by_hand_ends_a_start_that_waits(kernel: FakeKernel, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfagent.guests.lifecycle._RECONCILE_S", 0.2)
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await runs(agent)
        assert await agent.guests.request("stop", "x") is None
        user = kernel.tree.root / "sys/bus/pci/devices/0000:01:10.0/enable"
        user.write_text("1")
        agent.reconcile()
        await agent.until(lambda: agent.guests.guests["x"].placement.waits)  # type: ignore[union-attr]
        assert "0000:01:00.0/vf0" in str(await agent.guests.request("start", "x"))
        assert await agent.guests.request("stop", "x") is None
        user.write_text("0")
        agent.reconcile()
        await asyncio.sleep(1)
        assert (agent.phase(), len(started(kernel))) == ("stopped", 1)

    run(story)


def test_a_guest_that_was_stopped_by_hand_stays_so_when_its_vf_goes(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await runs(agent)
        stop = asyncio.create_task(agent.guests.request("stop", "x"))
        driver = kernel.tree.root / "sys/bus/pci/devices/0000:01:10.0/driver"
        away = driver.with_name("away")
        driver.rename(away)
        assert await stop is None
        away.rename(driver)
        agent.reconcile()
        await asyncio.sleep(1)
        assert (agent.phase(), len(started(kernel))) == ("stopped", 1)

    run(story)
