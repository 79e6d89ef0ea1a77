# SPDX-License-Identifier: Apache-2.0
"""Files of the policy on a server that does not answer: what waits for them, and for how long."""

import asyncio
import logging
import os
import time
from pathlib import Path

import pytest

from tests.host.fake_kernel import FakeKernel
from tests.host.leaks import run_to_end
from tests.host.test_agent import PF, POLICY, running_agent
from tests.host.waiting import LIMIT_S, until
from vfagent.errors import PolicyUnreadError
from vfagent.policy.types import Policy
from vfagent.process.worker import Worker
from vfagent.service.agent import Agent
from vfagent.service.preload import start_preload
from vfagent.store import policy_in_worker
from vfagent.store.policy_files import load
from vfagent.store.policy_trust import Untrusted

pytestmark = pytest.mark.usefixtures("kernel")


@pytest.fixture
def files(tmp_path: Path) -> FakeKernel:
    files = FakeKernel(tmp_path)
    files.tree.policy(POLICY)
    return files


@pytest.fixture
def hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """While this file exists, reading the policy hangs."""
    mark = tmp_path / "hangs"
    mark.touch()

    def hang(root: Path) -> Policy:
        if mark.exists():
            time.sleep(60)
        return load(root)

    monkeypatch.setattr("vfagent.store.policy_in_worker.load", hang)
    monkeypatch.setattr("vfagent.store.policy_in_worker.LOAD_S", 0.5)
    return mark


def test_the_service_starts_without_a_policy_that_hangs(files: FakeKernel, hangs: Path) -> None:
    files.tree.add_pf(PF)
    began = time.monotonic()
    preload = start_preload(files.host, files.tree.root)
    assert time.monotonic() - began < 10
    assert hangs.exists()
    assert isinstance(preload.policy, PolicyUnreadError)
    assert preload.policy.problems == ("cannot be read within 0.5 s",)
    assert preload.hanging is None, "SIGKILL ends it"
    preload.load_the_rest()
    assert not preload.workers
    os.close(preload.lock)


def test_a_policy_that_hung_at_the_start_is_loaded_later(
    files: FakeKernel, hangs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        began = time.monotonic()
        agent = Agent(files.host, files.tree.root)
        assert time.monotonic() - began < 10
        assert agent.policy_status.problems == ("cannot be read within 0.5 s",)
        # From here on it is read, which a busy machine needs its time for.
        hangs.unlink()
        monkeypatch.setattr("vfagent.store.policy_in_worker.LOAD_S", LIMIT_S)
        serving = asyncio.create_task(agent.run())
        await until(lambda: not agent.policy_status.problems)
        assert [rule.name for rule in agent.scheduler.policy.pf] == ["all"]
        agent._stop.set()
        await serving
        os.close(agent._lock)

    run_to_end(scenario())
    assert "policy: cannot be read within 0.5 s" in caplog.text


def test_a_policy_larger_than_a_pipe_comes_whole_from_its_worker(files: FakeKernel) -> None:
    rules = "".join(
        f'[[pf]]\nname = "n{number}"\nmatch = {{ pci = "0000:{number:02x}:*" }}\nvfs = 1\n' for number in range(999)
    )
    files.tree.policy(rules)
    first, hanging = policy_in_worker.read_in_worker(files.tree.root)
    assert first.active == load(files.tree.root)
    assert hanging is None


def test_a_worker_that_ends_while_it_reads_the_policy_is_an_error(
    files: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vfagent.store.policy_in_worker.load", lambda _: os._exit(1))
    began = time.monotonic()
    first, _ = policy_in_worker.read_in_worker(files.tree.root)
    assert isinstance(first.active, PolicyUnreadError)
    assert time.monotonic() - began < 5


def test_a_policy_that_others_can_write_is_a_warning_of_the_service(
    files: FakeKernel, caplog: pytest.LogCaptureFixture
) -> None:
    (files.tree.root / "etc/vfagent/policy.toml").chmod(0o666)

    async def scenario() -> None:
        async with running_agent(files):
            while "users other than root can write it" not in caplog.text:
                await asyncio.sleep(0.01)

    caplog.set_level(logging.WARNING)
    run_to_end(scenario())


def test_a_reload_does_not_end_the_check_of_owners_that_runs(
    files: FakeKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With reloads more frequent than a check is long, none would come to its end."""
    began, go = tmp_path / "began", tmp_path / "go"

    def wait(_policy: Policy, _root: Path) -> tuple[Untrusted, ...]:
        with began.open("a") as file:
            file.write(".")
        while not go.exists():
            time.sleep(0.01)
        return (Untrusted("/x", "of a test", "it is seen"),)

    monkeypatch.setattr("vfagent.service.agent.untrusted_files", wait)

    async def scenario() -> None:
        async with running_agent(files) as agent:
            await until(began.exists)
            await agent.reloads.reload()
            go.touch()
            await until(lambda: caplog.text.count("it is seen") == 2)

    run_to_end(scenario())
    assert began.read_text() == ".."


def test_a_policy_that_hangs_in_the_kernel_holds_one_worker(
    files: FakeKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each resync tries to read it again."""
    began, returns = tmp_path / "began", tmp_path / "returns"

    def hang(root: Path) -> Policy:
        with began.open("a") as file:
            file.write(".")
        while not returns.exists():
            time.sleep(0.01)
        return load(root)

    async def scenario() -> None:
        async with running_agent(files) as agent:
            monkeypatch.setattr("vfagent.store.policy_in_worker.load", hang)
            monkeypatch.setattr("vfagent.store.policy_in_worker.LOAD_S", 0.1)
            monkeypatch.setattr(Worker, "kill", lambda self: None)  # as in D state: SIGKILL is pending
            for _ in range(3):
                with pytest.raises(PolicyUnreadError):
                    await agent.reloads.reload()
            monkeypatch.undo()
            returns.touch()

    run_to_end(scenario())
    assert began.read_text() == "."


def test_a_file_whose_owner_is_not_known_in_time_stops_nothing(
    files: FakeKernel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def hang(_policy: Policy, _root: Path) -> tuple[Untrusted, ...]:
        time.sleep(60)
        raise AssertionError

    monkeypatch.setattr("vfagent.service.agent.untrusted_files", hang)
    monkeypatch.setattr("vfagent.service.agent._OWNERS_S", 0.5)

    async def scenario() -> None:
        async with running_agent(files) as agent:
            assert agent.scheduler.policy.pf
            while "cannot check who else can write its files: no answer within 0.5 s" not in caplog.text:
                await asyncio.sleep(0.01)

    run_to_end(scenario())
    caplog.clear()  # the record has the error, whose traceback has the agent and its sockets
