# SPDX-License-Identifier: Apache-2.0
"""Guests that QEMU has paused."""

import asyncio
import json
import signal

import pytest

from tests.host.fake_kernel import FakeKernel
from tests.host.fake_systemd import FAULTS, RUN_STATES
from tests.host.guest_rig import (
    PF,
    POLICY,
    Run,
    Running,
    bus,
    kernel,
    run,
    runs,
)
from tests.host.test_units import calls
from vfagent.model.pci import PciAddress

__all__ = ["bus", "kernel", "run"]


def tells(kernel: FakeKernel, status: int) -> None:
    """What ask-guest exits with: 64 for a guest that runs, 65 if it was paused by hand, 66 after an error of a disk."""
    (kernel.tree.root / RUN_STATES).write_text(json.dumps({"vfagent-guest-x.service": status}))


@pytest.mark.parametrize(("restart", "status"), [("no", 66), ("on-failure", 65)])
def test_a_guest_that_qemu_has_paused_is_reported(
    kernel: FakeKernel, run: Run, restart: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody restarts it: its rule says so, or somebody paused it on purpose."""
    kernel.tree.policy(POLICY.replace("[guest.ipxe]", f'restart = "{restart}"\n[guest.ipxe]'))
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await runs(agent)
        tells(kernel, status)
        agent.guests.pauses.ask()
        await agent.until(lambda: agent.phase() == "paused")
        assert "QEMU has paused it" in str(agent.guest().detail)  # type: ignore[union-attr]
        agent.guests.pauses.ask()
        agent.reconcile()
        await agent.until(lambda: len(calls(kernel.tree.root / "calls", "ReloadUnit")) == 2)
        assert agent.phase() == "paused"
        tells(kernel, 64)
        agent.guests.pauses.ask()  # while its QEMU is being asked already
        await agent.until(lambda: agent.phase() == "running")

    run(story)
    assert calls(kernel.tree.root / "calls", "KillUnit") == []
    assert caplog.text.count("QEMU has paused it") == 1


def test_a_guest_paused_after_an_error_is_killed_where_systemd_restarts_it(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await runs(agent)
        tells(kernel, 67)
        agent.guests.pauses.ask()
        await agent.until(lambda: agent.phase() != "running")

    run(story)
    unit = "vfagent-guest-x.service"
    assert calls(kernel.tree.root / "calls", "KillUnit") == [[unit, "main", signal.SIGKILL]]


def test_an_event_of_a_guests_vf_asks_its_qemu(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await runs(agent)
        (vf,) = agent.guests.guests["x"].held
        tells(kernel, 65)
        agent.guests.vf_event(PciAddress("0000:99:00.0"))
        await asyncio.sleep(1.2)
        assert agent.phase() == "running"
        agent.guests.vf_event(vf)
        agent.guests.vf_event(vf)
        await agent.until(lambda: agent.phase() == "paused")

    run(story)
    assert len(calls(kernel.tree.root / "calls", "ReloadUnit")) == 1


def test_an_event_while_guests_are_asked_is_not_lost(
    kernel: FakeKernel, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vfagent.guests.pauses._SOONEST_S", 0.1)
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await runs(agent)
        agent.guests.pauses.ask()
        agent.guests.pauses.ask()
        tells(kernel, 65)
        await agent.until(lambda: len(calls(kernel.tree.root / "calls", "ReloadUnit")) == 2)
        await agent.until(lambda: agent.phase() == "paused")

    run(story)


def test_a_paused_guest_is_found_when_the_service_starts(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)
    run(runs)
    tells(kernel, 65)

    async def story(agent: Running) -> None:
        await agent.until(lambda: agent.phase() == "paused")

    run(story)


def test_a_guest_of_an_earlier_version_that_cannot_be_asked_runs(kernel: FakeKernel, run: Run, bus: str) -> None:
    kernel.tree.add_pf(PF)
    tells(kernel, 67)

    async def story(agent: Running) -> None:
        await runs(agent)
        (kernel.tree.root / FAULTS).write_text('{"ReloadUnit": "refused"}')
        agent.guests.pauses.ask()
        await agent.until(lambda: calls(kernel.tree.root / "calls", "ReloadUnit"))
        await asyncio.sleep(0.3)
        assert agent.phase() == "running"

    run(story)
