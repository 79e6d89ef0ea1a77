# SPDX-License-Identifier: Apache-2.0
"""A policy on trial when something goes wrong: files that cannot be read, that came back, a folder that refuses."""

import asyncio
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.host.fake_kernel import FakeKernel
from tests.host.leaks import run_to_end
from tests.host.test_agent import PF, Service, Start, files, running_agent, start
from tests.host.test_apply import FOUR, RULE, Command, by_varlink, command, service
from vfagent.policy.types import Policy
from vfagent.store import unconfirmed
from vfagent.store.policy_files import load, load_text
from vfagent.store.unconfirmed import FirstPolicy, first_policy

__all__ = ["command", "files", "service", "start"]
pytestmark = pytest.mark.usefixtures("kernel")


def kept(files: FakeKernel) -> Path:
    return files.tree.root / "var/lib/vfagent/unconfirmed.json"


def unreadable(files: FakeKernel) -> Path:
    """A drop-in that leads to itself: the kernel refuses it, with ELOOP."""
    path = files.tree.root / "etc/vfagent/policy.d/99-loop.toml"
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(path.name)
    return path


def killed(service: Service) -> None:
    service.signal(signal.SIGKILL)
    service.process.wait()


def test_a_trial_lapses_also_where_a_restarted_service_cannot_read_the_policy(
    files: FakeKernel, service: Service, start: Start
) -> None:
    before = service.status["policy"]["digest"]
    files.tree.policy(FOUR)
    by_varlink(files.tree.root, confirm_s=4)
    service.until(lambda: len(files.tree.vfs(PF)) == 4)
    killed(service)
    unreadable(files)
    later = start().ready()
    later.until(lambda: later.status["policy"]["digest"] == before)
    later.until(lambda: len(files.tree.vfs(PF)) == 2)
    problems = later.status["policy"]["problems"]
    assert any("ELOOP" in problem for problem in problems)
    assert "was not confirmed" in problems[-1]


@pytest.fixture
def loop(files: FakeKernel) -> Path:
    """The files are those of a trial, and one more cannot be read."""
    files.tree.policy(FOUR)
    return unreadable(files)


def on_trial(files: FakeKernel, loop: Path, within_s: float) -> str:
    """Its digest. The policy before it is the one with two VFs."""
    loop.unlink()
    digest = load(files.tree.root).digest
    unconfirmed.keep(files.tree.root, digest, load_text("before", RULE), within_s)
    unreadable(files)
    return digest


def test_a_trial_goes_on_when_its_files_can_be_read_again(files: FakeKernel, loop: Path) -> None:
    digest = on_trial(files, loop, within_s=600)

    async def scenario() -> None:
        async with running_agent(files) as agent:
            assert agent.policy == Policy()
            loop.unlink()
            agent._resync()
            while agent.policy.digest != digest:
                await asyncio.sleep(0.01)
            assert kept(files).exists()
            assert await agent.trial.confirm() == digest
            assert not kept(files).exists()

    run_to_end(scenario())


def test_a_lapsed_trial_is_not_loaded_when_its_files_can_be_read_at_last(files: FakeKernel, loop: Path) -> None:
    on_trial(files, loop, within_s=0)
    before = load_text("before", RULE)

    async def scenario() -> None:
        async with running_agent(files) as agent:
            assert agent.policy == before
            problems = agent.policy_status.problems
            assert len(problems) == 2
            loop.unlink()
            agent._resync()
            while agent.policy_status.problems == problems:
                await asyncio.sleep(0.01)
            assert agent.policy_status.problems == problems[1:]
            assert "was not confirmed" in problems[1]
            assert agent.policy == before

    run_to_end(scenario())


def test_a_lapsed_trial_is_forgotten_once_its_files_are_restored(files: FakeKernel) -> None:
    files.tree.policy(FOUR)
    trial = load(files.tree.root).digest
    files.tree.policy(RULE)
    unconfirmed.keep(files.tree.root, trial, load(files.tree.root), within_s=0)
    files.tree.policy(FOUR)

    async def scenario() -> None:
        async with running_agent(files) as agent:
            assert "was not confirmed" in agent.policy_status.problems[0]
            files.tree.policy(RULE)
            agent._resync()
            while agent.policy_status.problems or kept(files).exists():
                await asyncio.sleep(0.01)
            assert agent.policy_status.on_disk_active

    run_to_end(scenario())


def test_files_that_were_restored_by_hand_are_no_trial(files: FakeKernel, service: Service, start: Start) -> None:
    before = service.status["policy"]["digest"]
    files.tree.policy(FOUR)
    by_varlink(files.tree.root, confirm_s=1)
    service.until(lambda: service.status["policy"]["problems"])
    files.tree.policy(RULE)
    assert service.stop() == 0
    later = start().ready()
    assert later.status["policy"]["digest"] == before
    assert later.status["policy"]["problems"] == []
    assert not kept(files).exists()


def test_a_confirmation_that_cannot_be_stored_is_an_error_and_the_trial_goes_on(
    files: FakeKernel, service: Service, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    before = service.status["policy"]["digest"]
    files.tree.policy(FOUR)
    by_varlink(files.tree.root, confirm_s=8)
    subprocess.run(["chattr", "+i", str(kept(files))], check=True)
    try:
        assert command("confirm") == 1
        assert "the policy is on trial still" in capsys.readouterr().err
        assert command("reload") == 1
        assert "nothing was changed, as another policy is on trial still" in capsys.readouterr().err
        service.until(lambda: service.status["policy"]["digest"] == before)
    finally:
        subprocess.run(["chattr", "-i", str(kept(files))], check=True)
    assert command("reload") == 0
    assert service.status["policy"]["digest"] == load(files.tree.root).digest


def test_a_confirmation_is_on_disk_before_it_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unconfirmed.keep(tmp_path, "digest", load(tmp_path), 60)
    synced = list[Path]()
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(Path(os.readlink(f"/proc/self/fd/{fd}"))))
    unconfirmed.forget(tmp_path)
    assert synced == [tmp_path / "var/lib/vfagent"]
    assert list(synced[0].iterdir()) == []
    unconfirmed.forget(tmp_path)


def test_the_policy_before_can_be_none(files: FakeKernel, start: Start) -> None:
    files.tree.add_pf(PF)
    (files.tree.root / "etc/vfagent/policy.toml").unlink()
    service = start().ready()
    files.tree.policy(FOUR)
    by_varlink(files.tree.root, confirm_s=1)
    service.until(lambda: service.status["policy"]["problems"])
    assert "no policy, as before it, is active" in service.status["policy"]["problems"][0]


def test_the_status_says_until_when_a_policy_is_on_trial(
    files: FakeKernel, service: Service, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not service.status["policy"]["trial_ends_at"]
    files.tree.policy(FOUR)
    by_varlink(files.tree.root, confirm_s=600)
    service.until(lambda: service.status["policy"]["trial_ends_at"])
    ends_at: float = service.status["policy"]["trial_ends_at"]
    assert 500 < ends_at - time.time() < 601
    command("status")
    assert "is active again (vfagent confirm keeps this one)" in capsys.readouterr().out
    assert command("confirm") == 0
    service.until(lambda: not service.status["policy"]["trial_ends_at"])
    capsys.readouterr()
    command("status")
    assert "trial" not in capsys.readouterr().out


def test_files_that_have_not_changed_can_be_on_trial(files: FakeKernel, service: Service, command: Command) -> None:
    by_varlink(files.tree.root, confirm_s=1)
    service.until(lambda: command("confirm") == 1)
    assert service.status["policy"]["problems"] == []


def test_other_files_at_the_start_end_a_trial(files: FakeKernel) -> None:
    files.tree.policy(RULE)
    before = load(files.tree.root)
    unconfirmed.keep(files.tree.root, "digest", before, 0)
    assert not first_policy(files.tree.root, before).lapsed
    unconfirmed.forget(files.tree.root)
    assert first_policy(files.tree.root, before) == FirstPolicy(before)
