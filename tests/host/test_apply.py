# SPDX-License-Identifier: Apache-2.0
"""`apply`, `reload` and `confirm` beside the running service: the same policy has the same verdict by each."""

import contextlib
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.host.fake_kernel import FakeKernel
from tests.host.leaks import run_to_end
from tests.host.test_agent import PF, Service, Start, files, running_agent, start
from tests.host.waiting import until
from vfagent.cli.apply_by_service import follow
from vfagent.cli.main import main
from vfagent.service.control_client import ErrorReplyError, call
from vfagent.store.policy_files import load, load_text

__all__ = ["files", "start"]
pytestmark = pytest.mark.usefixtures("kernel")

RULE = '[[pf]]\nname = "all"\nmatch = { driver = "igb" }\nvfs = 2\n[[pf.vf]]\ndriver = "vfio-pci"\n'
FOUR = RULE.replace("vfs = 2", "vfs = 4")
INVALID = RULE.replace("vfs = 2", 'vfs = "two"')
RELOAD = "io.vfagent.Reload"

Command = Callable[..., int]


@pytest.fixture
def service(files: FakeKernel, start: Start) -> Service:
    files.tree.policy(RULE)
    files.tree.add_pf(PF)
    return start().ready()


@pytest.fixture
def command(files: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setattr("vfagent.cli.main.require_own_host", lambda *_: None)
    return lambda verb, *options: main([verb, "--root", str(files.tree.root), *options])


def by_varlink(root: Path, **parameters: object) -> str:
    """The digest that is active then, or the name of the error."""
    try:
        return str(call(root, RELOAD, **parameters)["digest"])
    except ErrorReplyError as error:
        return error.name


def in_use(files: FakeKernel) -> None:
    (files.tree.device(files.tree.vfs(PF)[0]) / "enable").write_text("1\n")


def test_a_good_policy_is_done_by_apply_and_active_by_reload(
    files: FakeKernel, service: Service, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    files.tree.policy(FOUR)
    assert command("apply") == 0
    assert len(files.tree.vfs(PF)) == 4
    assert f"{PF}: converged, 4 VFs\n" in capsys.readouterr().err
    assert command("apply") == command("reload") == 0
    assert by_varlink(files.tree.root) == load(files.tree.root).digest == service.status["policy"]["digest"]


def test_an_invalid_policy_is_refused_by_each_and_changes_nothing(
    files: FakeKernel, service: Service, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    before = service.status["policy"]["digest"]
    files.tree.policy(INVALID)
    for verb in ("apply", "reload"):
        assert command(verb) == 4
        assert "vfs: found" in capsys.readouterr().err
    assert by_varlink(files.tree.root) == "io.vfagent.PolicyRefused"
    assert service.status["policy"]["digest"] == before
    assert len(files.tree.vfs(PF)) == 2


def test_a_deferred_policy_is_active_and_apply_says_what_waits(
    files: FakeKernel, service: Service, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    in_use(files)
    before = files.tree.vfs(PF)
    files.tree.policy(FOUR)
    assert command("apply") == 5
    assert "a process has it open through vfio-pci" in capsys.readouterr().err
    assert command("reload") == 0
    assert by_varlink(files.tree.root) == load(files.tree.root).digest
    assert files.tree.vfs(PF) == before


def test_what_waits_for_users_is_no_excuse_for_what_fails(
    files: FakeKernel, service: Service, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    in_use(files)
    files.tree.policy(f"{FOUR}[[bridge]]\nname = 'br0'\n")
    assert command("apply") == 3
    assert "bridges: cannot create bridge br0" in capsys.readouterr().err


def test_the_verdict_waits_for_guests_and_bridges(tmp_path: Path) -> None:
    files = FakeKernel(tmp_path / "root")

    async def scenario() -> None:
        async with running_agent(files) as agent:
            await until(lambda: agent.snapshot().idle)
            agent.activate(load_text("bridge", "[[bridge]]\nname = 'br0'\n"))
            assert agent.scheduler.idle
            assert not agent.snapshot().idle
            await until(lambda: agent.snapshot().idle)
            assert agent.snapshot().bridges
            agent.activate(
                load_text("guest", f"{RULE}[[guest]]\nname = 'web'\nvfs = ['all:0']\n[guest.kernel]\nimage = '/x'\n")
            )
            assert agent.scheduler.idle
            assert not agent.snapshot().idle

    run_to_end(scenario())


def test_a_failing_policy_is_active_and_apply_says_why(
    files: FakeKernel, service: Service, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    files.tree.policy(FOUR.replace("vfs = 4", "vfs = 9"))
    assert command("apply") == 3
    assert "asks for 9 VFs, the PF supports at most 8" in capsys.readouterr().err
    assert command("reload") == 0
    assert by_varlink(files.tree.root) == load(files.tree.root).digest


def test_apply_waits_only_so_long_or_not_at_all(
    files: FakeKernel, service: Service, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    files.slow_down(PF, "sriov_numvfs", 2.0)
    files.tree.policy(FOUR)
    assert command("apply", "--no-wait") == 0
    assert len(files.tree.vfs(PF)) != 4
    assert follow(files.tree.root, load(files.tree.root).digest, 0.5, as_json=False) == 3
    assert "not finished after 0.5 s: it goes on" in capsys.readouterr().err
    assert follow(files.tree.root, load(files.tree.root).digest, 60, as_json=False) == 0
    assert len(files.tree.vfs(PF)) == 4


def test_apply_asks_on_a_terminal_before_vfs_are_removed(
    files: FakeKernel, service: Service, command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    files.tree.policy(FOUR)
    monkeypatch.setattr(sys, "stdin", _Terminal("n"))
    assert command("apply") == 1
    assert "removes 2 VFs first\napply it? [y/N] nothing was changed" in capsys.readouterr().err
    assert len(files.tree.vfs(PF)) == 2
    monkeypatch.setattr(sys, "stdin", _Terminal("y"))
    assert command("apply") == 0
    assert len(files.tree.vfs(PF)) == 4
    files.tree.policy(RULE)
    monkeypatch.setattr(sys, "stdin", _Terminal("n"))
    assert command("apply", "--yes") == 0
    assert len(files.tree.vfs(PF)) == 2


class _Terminal:
    def __init__(self, answer: str) -> None:
        self.answer = answer

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self.answer + "\n"


def test_the_policy_before_comes_back_unless_the_new_one_is_confirmed(
    files: FakeKernel, service: Service, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    before = service.status["policy"]["digest"]
    files.tree.policy(FOUR)
    by_varlink(files.tree.root, confirm_s=1)
    service.until(lambda: len(files.tree.vfs(PF)) == 4 or service.status["policy"]["problems"])
    service.until(lambda: service.status["policy"]["problems"])
    assert service.status["policy"]["digest"] == before
    assert "was not confirmed: the policy before it" in service.status["policy"]["problems"][0]
    service.until(lambda: len(files.tree.vfs(PF)) == 2)
    assert command("confirm") == 1
    assert "no policy waits for it" in capsys.readouterr().err


def test_a_confirmed_policy_stays(files: FakeKernel, service: Service, command: Command) -> None:
    files.tree.policy(FOUR)
    assert command("apply", "--confirm", "10s") == 0
    kept = files.tree.root / "var/lib/vfagent/unconfirmed.json"
    assert kept.stat().st_mode & 0o007 == 0
    assert command("confirm") == 0
    assert not kept.exists()
    assert service.status["policy"]["digest"] == load(files.tree.root).digest


def test_a_service_that_was_killed_goes_back_in_time(files: FakeKernel, service: Service, start: Start) -> None:
    before = service.status["policy"]["digest"]
    files.tree.policy(FOUR)
    by_varlink(files.tree.root, confirm_s=3)
    service.signal(signal.SIGKILL)
    service.process.wait()
    later = start().ready()
    later.until(lambda: later.status["policy"]["problems"])
    assert later.status["policy"]["digest"] == before
    later.until(lambda: len(files.tree.vfs(PF)) == 2)


@pytest.mark.parametrize("boots", [False, True])
def test_a_service_that_starts_after_the_trial_has_the_policy_before_it(
    *, files: FakeKernel, service: Service, start: Start, boots: bool
) -> None:
    before = service.status["policy"]["digest"]
    boot_id = files.tree.root / "proc/sys/kernel/random/boot_id"
    boot_id.parent.mkdir(parents=True, exist_ok=True)
    boot_id.write_text("first\n")
    files.tree.policy(FOUR)
    by_varlink(files.tree.root, confirm_s=600 if boots else 1)
    assert service.stop() == 0
    if boots:
        boot_id.write_text("second\n")
    later = start().ready()
    later.until(lambda: later.status["policy"]["digest"] == before)
    assert "was not confirmed" in later.status["policy"]["problems"][0]
    assert by_varlink(files.tree.root) == load(files.tree.root).digest != before
    assert later.stop() == 0
    last = start().ready()
    assert last.status["policy"]["digest"] == load(files.tree.root).digest


def test_without_a_service_there_is_nothing_to_go_back(
    files: FakeKernel, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("apply", "--confirm", "2min") == 1
    assert "cannot go back from a policy without the service" in capsys.readouterr().err
    assert command("reload") == command("confirm") == 6
    with contextlib.suppress(SystemExit):
        command("apply", "--confirm", "soon")
    assert "allowed is 10s to 99999s" in capsys.readouterr().err
