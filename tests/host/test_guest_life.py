# SPDX-License-Identifier: Apache-2.0
"""Guests that run: recognised, left alone, stopped, and started again."""

import asyncio
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.host.fake_kernel import FakeKernel
from tests.host.guest_rig import (
    PF,
    POLICY,
    SECOND,
    Run,
    Running,
    bus,
    kernel,
    run,
    runs,
    started,
)
from vfagent.model.vf_use import pf_in_use
from vfagent.reconcile.observe import observe_pf

__all__ = ["bus", "kernel", "run"]


def test_a_guest_with_an_outdated_rule_stays_stopped_by_hand(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await runs(agent)
        agent.reload(POLICY.replace('name = "x"', 'name = "x"\ncpus = 2'))
        await agent.until(lambda: (guest := agent.guest()) and guest.outdated)
        await agent.guests.request("stop", "x")
        assert agent.phase() == "stopped"
        agent.reconcile()
        await asyncio.sleep(0.5)
        assert agent.phase() == "stopped"

    run(story)
    assert len(started(kernel)) == 1


def test_the_next_agent_finds_a_running_guest_and_leaves_it_alone(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)
    pids = []

    async def story(agent: Running) -> None:
        await runs(agent)
        pids.append(agent.pid())

    run(story)
    shutil.rmtree(kernel.tree.root / "run")
    run(story)
    assert len(started(kernel)) == 1
    assert pids[0] == pids[1]


def test_the_guest_that_uses_a_vf_is_named(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)
    run(runs)
    pf = observe_pf(kernel.host, PF)
    assert pf
    assert pf_in_use(pf) == ("vf0: guest x has it open through vfio-pci",)


def test_any_vf_means_one_that_no_running_guest_uses(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)
    run(runs)

    async def second(agent: Running) -> None:
        agent.reload(POLICY + SECOND)
        await agent.until(lambda: agent.phase("y") == "running")
        assert agent.guest("y").vfs == (f"{PF}/vf1",)  # type: ignore[union-attr]

    run(second)


def test_a_guest_that_ended_stays_stopped_for_later_agents_too(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)

    async def ends(agent: Running) -> None:
        await runs(agent)
        os.kill(agent.pid(), signal.SIGTERM)
        await agent.until(lambda: agent.phase() == "stopped")

    async def stays(agent: Running) -> None:
        await agent.until(lambda: agent.phase() == "stopped")
        await asyncio.sleep(0.5)
        assert len(started(kernel)) == 1
        assert await agent.guests.request("start", "x") is None
        assert agent.phase() == "running"

    run(ends)
    run(stays)


def test_a_stop_by_hand_reaches_a_guest_that_systemd_has_restarted_since_it_was_listed(
    kernel: FakeKernel, run: Run
) -> None:
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await runs(agent)
        pid, guest = agent.pid(), agent.guests.guests["x"]
        assert guest.unit is not None
        guest.unit = replace(guest.unit, active="failed", pid=0)
        assert await agent.guests.request("stop", "x") is None
        await agent.until(lambda: not Path(f"/proc/{pid}").exists())

    run(story)


def test_a_stop_by_hand_reaches_a_guest_that_has_just_been_started(
    kernel: FakeKernel, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its unit is not listed yet."""
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await agent.until(lambda: agent.phase() == "starting")
        with monkeypatch.context() as slow:
            slow.setattr(agent.guests.units, "refresh", lambda: None)
            assert await agent.guests.request("stop", "x") is None
        agent.guests.units.refresh()
        await agent.until(lambda: agent.guests._current)
        assert agent.phase() == "stopped"

    run(story)


def test_a_guest_stopped_by_hand_stays_stopped_until_its_rule_changes(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await runs(agent)
        assert await agent.guests.request("stop", "x") is None
        assert agent.phase() == "stopped"
        agent.reconcile()
        await asyncio.sleep(0.5)
        assert agent.phase() == "stopped"
        agent.reload(POLICY.replace('name = "x"', 'name = "x"\ncpus = 2'))
        await runs(agent)

    run(story)


class Journal:
    """A journal of one unit, read from its end."""

    def __init__(self) -> None:
        printed = ("qemu-system-x86_64: Could not open '/srv/a\x1b[2J': Permission denied", "login: ", b"\xff")
        self.entries = [{"MESSAGE": text} for text in ("qemu-system-x86_64: warning: old", *printed)]
        self.matches: dict[str, str] = {}

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        assert self.matches == {"_SYSTEMD_UNIT": "vfagent-guest-x.service"}

    def this_boot(self) -> None: ...

    def seek_tail(self) -> None: ...

    def add_match(self, **match: str) -> None:
        self.matches |= match

    def get_previous(self) -> dict[str, Any]:
        return self.entries.pop() if self.entries else {}


def test_a_guest_that_systemd_no_longer_restarts_has_failed(
    kernel: FakeKernel, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("systemd.journal.Reader", Journal)
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await runs(agent)
        os.kill(agent.pid(), signal.SIGKILL)
        await agent.until(lambda: agent.phase() == "failed")
        last = "its unit failed: signal: Could not open '/srv/a\\x1b[2J': Permission denied"
        await agent.until(lambda: agent.guest().detail == last)  # type: ignore[union-attr]
        await asyncio.sleep(0.5)
        assert len(started(kernel)) == 1
        assert await agent.guests.request("start", "x") is None
        await runs(agent)

    run(story)


def test_a_changed_rule_does_not_disturb_a_running_guest(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await runs(agent)
        pid = agent.pid()
        agent.reload(POLICY.replace('name = "x"', 'name = "x"\ncpus = 2'))
        await agent.until(lambda: agent.guest().outdated)  # type: ignore[union-attr]
        agent.reload(POLICY.partition("[[guest]]")[0])
        await agent.until(lambda: agent.guest().detail)  # type: ignore[union-attr]
        assert (agent.phase(), agent.pid()) == ("running", pid)

    run(story)


def test_a_removed_vf_stops_its_guest_until_the_vf_is_back(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await runs(agent)
        vf = kernel.tree.vfs(PF)[0]
        kernel.tree.bind(vf, None)  # as a removal that waits for its user leaves it
        agent.guests.check_vfs()
        await agent.until(lambda: agent.phase() == "waiting")
        agent.reconcile()
        await runs(agent)

    run(story)
    assert len(started(kernel)) == 2


def test_a_kernel_without_an_event_for_a_removed_vf_is_asked_while_a_guest_runs(
    kernel: FakeKernel, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.tree.add_pf(PF)
    asked: list[str | None] = []

    async def story(agent: Running) -> None:
        monkeypatch.setattr(agent.guests.lost_vfs, "check", lambda: asked.append(agent.phase()))
        agent.guests.lost_vfs.every_s = 0.05
        await agent.until(lambda: len(asked) >= 2)
        assert set(asked) == {"running"}

    run(story)


@pytest.mark.parametrize(("release", "interval_s"), [("6.1.0-25-amd64", 15.0), ("6.6.1", 0.0), ("6.12.1", 0.0)])
def test_only_kernels_before_6_6_are_asked(
    kernel: FakeKernel, run: Run, release: str, interval_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "node1", release, "#1 SMP", "x86_64")))

    async def story(agent: Running) -> None:
        assert agent.guests.lost_vfs.every_s == interval_s

    run(story)


def test_a_guest_waits_for_a_vf_in_use(kernel: FakeKernel, run: Run) -> None:
    kernel.tree.add_pf(PF)

    async def first(agent: Running) -> None:
        agent.guests.consider_soon = lambda delay_s=0.0: None  # type: ignore[method-assign]
        await agent.until(lambda: agent.scheduler.pfs and agent.scheduler.idle)

    async def story(agent: Running) -> None:
        await agent.until(lambda: agent.phase() == "waiting")
        assert "has it open through vfio-pci" in (agent.guest().detail or "")  # type: ignore[union-attr]
        enable.write_text("0")
        agent.reconcile()
        await runs(agent)

    run(first)
    enable = kernel.tree.device(kernel.tree.vfs(PF)[0]) / "enable"
    enable.write_text("1")
    run(story)


def test_a_guest_can_be_started_right_after_it_ended(kernel: FakeKernel, run: Run) -> None:
    """Its VF was in use when it was last observed, and no event reports that it is not any more."""
    kernel.tree.add_pf(PF)

    async def story(agent: Running) -> None:
        await runs(agent)
        agent.reconcile()
        await agent.until(lambda: agent.scheduler.idle)
        os.kill(agent.pid(), signal.SIGKILL)
        await agent.until(lambda: agent.phase() == "failed")
        assert await agent.guests.request("start", "x") is None
        assert agent.phase() == "running"

    run(story)
