# SPDX-License-Identifier: Apache-2.0
"""The service compares the active policy with the one on disk at each resync, and loads nothing by itself."""

import asyncio
import logging
import time
from pathlib import Path

import pytest

from tests.host.fake_kernel import FakeKernel
from tests.host.leaks import run_to_end
from tests.host.test_agent import PF, running_agent
from vfagent.service.agent import Agent

pytestmark = pytest.mark.usefixtures("kernel")

RULE = '[[pf]]\nname = "all"\nmatch = { driver = "igb" }\nassume_idle = true\nvfs = 2\n'


@pytest.fixture
def files(tmp_path: Path) -> FakeKernel:
    files = FakeKernel(tmp_path / "root")
    files.tree.policy(RULE)
    files.tree.add_pf(PF)
    return files


def on_disk(agent: Agent) -> bool | None:
    return agent.snapshot().policy.on_disk_active


async def resync_until(agent: Agent, *, shows: bool | None) -> None:
    """`_resync` is what the timer calls, every five minutes."""
    agent._resync()
    while on_disk(agent) is not shows:
        await asyncio.sleep(0.01)


def test_a_policy_that_is_changed_and_not_loaded_is_reported_at_the_next_resync(
    files: FakeKernel, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with running_agent(files) as agent:
            assert on_disk(agent) is True
            files.tree.policy(RULE.replace("vfs = 2", "vfs = 3"))
            await resync_until(agent, shows=False)
            assert len(files.tree.vfs(PF)) == 2
            files.tree.policy(RULE)
            await resync_until(agent, shows=True)
            files.tree.policy("[[pf]]\nvfs = many\n")
            await resync_until(agent, shows=False)
            files.tree.policy(RULE.replace("vfs = 2", "vfs = 3"))
            await agent.reloads.reload()
            assert on_disk(agent) is True

    run_to_end(scenario())
    assert caplog.text.count("the one on disk is not the active one") == 2


def test_a_folder_that_hangs_holds_one_worker_and_stops_nothing(
    files: FakeKernel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def hang(_: Path) -> str:
        time.sleep(60)
        raise AssertionError

    async def scenario() -> None:
        async with running_agent(files) as agent:
            monkeypatch.setattr("vfagent.service.policy_comparison.digest_on_disk", hang)
            monkeypatch.setattr("vfagent.service.policy_comparison._READ_S", 0.2)
            began = time.monotonic()
            await resync_until(agent, shows=None)
            assert time.monotonic() - began < 8
            monkeypatch.undo()
            await resync_until(agent, shows=True)

    caplog.set_level(logging.WARNING)
    run_to_end(scenario())
    assert "cannot be compared with the one on disk: no answer within 0.2 s" in caplog.text
    caplog.clear()  # the record has the error, whose traceback has the agent and its sockets
