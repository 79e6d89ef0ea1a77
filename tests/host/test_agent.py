# SPDX-License-Identifier: Apache-2.0
"""The service as systemd sees it: a process with signals, a notification socket and files."""

import asyncio
import errno
import gc
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.host.fake_kernel import UDEV_KNOWS_NOTHING, FakeKernel
from tests.host.leaks import run_to_end
from tests.host.namespace import run
from tests.host.tree import put
from tests.host.uevents import message, send
from tests.host.waiting import LIMIT_S, until, wait_until
from vfagent.errors import PolicyUnreadError
from vfagent.kernel.udev import QUEUE, STORED
from vfagent.model.pci import PciAddress
from vfagent.model.status import Phase
from vfagent.policy.types import AgentRule, Policy
from vfagent.service.agent import Agent
from vfagent.store.policy_files import load
from vfagent.store.state import State

pytestmark = pytest.mark.usefixtures("kernel")

PROJECT = Path(__file__).parents[2]
PF, OTHER = "0000:01:00.0", "0000:02:00.0"
# The PF has no netdev here, so nobody could tell whether its VFs are used.
POLICY = '[[pf]]\nname = "all"\nmatch = { driver = "igb" }\nassume_idle = true\nvfs = 2\n'


class Service:
    """One agent, and the notifications that it has sent to systemd."""

    def __init__(self, root: Path, sock: socket.socket, address: Path) -> None:
        self.root, self.notifications, self._socket = root, list[str](), sock
        log = open(root / "log", "a")  # noqa: SIM115
        environment = {**os.environ, "NOTIFY_SOCKET": str(address), "PYTHONPATH": str(PROJECT)}
        argv = [sys.executable, "-m", "tests.host.agent_process", str(root)]
        self.process = subprocess.Popen(argv, cwd=PROJECT, env=environment, stderr=log)
        log.close()

    def hear(self) -> list[str]:
        """All notifications so far. Read often, as systemd does: the socket's queue is short."""
        while True:
            try:
                self.notifications.append(self._socket.recv(1 << 16).decode())
            except BlockingIOError:
                return self.notifications

    def until(self, condition: Callable[[], object], *, within_s: float = LIMIT_S) -> None:
        def holds() -> object:
            self.hear()
            if not (result := condition()):
                assert self.process.poll() is None, self.log
            return result

        wait_until(holds, self._stuck, within_s=within_s)

    def _stuck(self) -> str:
        """Its stack traces, which faulthandler writes to its log."""
        self.signal(signal.SIGABRT)
        self.process.wait(5)
        return f"{self.notifications}\n{self.log}"

    def ready(self) -> "Service":
        self.until(lambda: "READY=1" in self.hear())
        return self

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        wait_until(lambda: self.hear() and self.process.poll() is not None, self._stuck)
        return self.process.wait(0)

    @property
    def log(self) -> str:
        return (self.root / "log").read_text()

    @property
    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads((self.root / "run/vfagent/status.json").read_text())
        return status

    def pf(self, address: str = PF) -> dict[str, Any]:
        (status,) = (pf for pf in self.status["pfs"] if pf["address"] == address)
        return dict(status)


Start = Callable[[], Service]


@pytest.fixture
def files(tmp_path: Path) -> FakeKernel:
    files = FakeKernel(tmp_path / "root")
    files.tree.policy(POLICY)
    return files


@pytest.fixture
def start(files: FakeKernel, tmp_path: Path) -> Iterator[Start]:
    started: list[Service] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(0)

        def begin() -> Service:
            started.append(Service(files.tree.root, systemd, tmp_path / "notify"))
            return started[-1]

        yield begin
        for service in started:
            service.process.kill()
            service.process.wait()


def test_ready_comes_when_the_pfs_found_at_start_have_converged(files: FakeKernel, start: Start) -> None:
    for address in (PF, OTHER):
        files.tree.add_pf(address)
        files.slow_down(address, "sriov_numvfs", 1.0)
    service = start()
    service.until(lambda: files.writes(PF, "sriov_drivers_autoprobe"))
    assert "READY=1" not in service.hear()
    service.ready()
    assert all(len(files.tree.vfs(address)) == 2 for address in (PF, OTHER))
    assert service.status["ready"] is True
    assert {pf["phase"] for pf in service.status["pfs"]} == {"converged"}


def test_a_reload_during_the_start_does_not_end_the_start(files: FakeKernel, start: Start) -> None:
    files.tree.add_pf(PF)
    files.slow_down(PF, "sriov_numvfs", 2.0)
    service = start()
    service.until(lambda: files.writes(PF, "sriov_drivers_autoprobe"))
    service.signal(signal.SIGHUP)
    service.until(lambda: "reloading the policy" in service.log and service.log.count("is active, from"))
    assert "READY=1" not in service.hear()
    service.ready()
    assert len(files.tree.vfs(PF)) == 2


def test_the_event_loop_takes_over_the_preloads_workers(files: FakeKernel, start: Start) -> None:
    for address in (PF, OTHER):
        files.tree.add_pf(address)
        files.slow_down(address, "sriov_numvfs", 1.5)
    put(files.tree.root / STORED / f"+pci:{PF}", "")  # the other PF is left to the event loop
    service = start()
    service.until(lambda: files.writes(PF, "sriov_drivers_autoprobe"))
    assert not (files.tree.root / "run/vfagent/status.json").exists()
    service.ready()
    assert {pf["phase"] for pf in service.status["pfs"]} == {"converged"}
    for address in (PF, OTHER):
        assert [write.text for write in files.writes(address, "sriov_numvfs")] == ["2"]
    assert f"PF {PF}: create 2 VFs on {PF}" in service.log
    before = service.pf()["rounds"]
    service.until(lambda: service.pf()["rounds"] > before)  # for an event that may have come before the monitors


def waiting_for_a_driver(files: FakeKernel, start: Start) -> Service:
    """A service with a PF without a driver, while udev has events to handle."""
    files.tree.add_pf(PF)
    files.tree.bind(PF, None)
    put(files.tree.root / QUEUE, "")
    service = start()
    service.until(lambda: (files.tree.root / "run/vfagent/status.json").exists())
    return service


def test_a_pf_that_udev_has_not_initialized_is_not_reconciled(files: FakeKernel, start: Start) -> None:
    """It would take CPU time of the boot for nothing."""
    service = waiting_for_a_driver(files, start)
    time.sleep(2.5)
    assert service.pf()["rounds"] == 0
    assert (service.pf()["phase"], service.pf()["waiting"]) == ("waiting", ["udev has not finished with the PF"])


def test_ready_waits_for_a_driver_while_udev_has_events(files: FakeKernel, start: Start) -> None:
    """As in the lab: udev stored the device four seconds before it loaded igb."""
    service = waiting_for_a_driver(files, start)
    time.sleep(1.5)
    assert "READY=1" not in service.hear()
    put(files.tree.root / STORED / f"+pci:{PF}", "")
    files.tree.bind(PF, "igb")
    send(message(f"/devices/pci0000:00/{PF}", action="bind"))
    service.ready()
    assert len(files.tree.vfs(PF)) == 2


def test_ready_does_not_wait_for_a_driver_that_udev_never_loads(files: FakeKernel, start: Start) -> None:
    service = waiting_for_a_driver(files, start)
    (files.tree.root / QUEUE).unlink()
    began = time.monotonic()
    service.ready()
    assert time.monotonic() - began < 5
    assert service.pf()["phase"] == "unmanaged"


def test_a_device_that_udev_does_not_know_is_reconciled_once_a_second(files: FakeKernel, start: Start) -> None:
    put(files.tree.root / UDEV_KNOWS_NOTHING, "")
    service = waiting_for_a_driver(files, start)
    (files.tree.root / QUEUE).unlink()
    before = service.pf()["rounds"]
    time.sleep(3.0)
    assert 1 <= service.pf()["rounds"] - before <= 4


def test_ready_comes_when_a_pf_has_been_reported_as_failed(files: FakeKernel, start: Start) -> None:
    for address in (PF, OTHER):
        files.tree.add_pf(address)
    files.refuse(PF, "sriov_numvfs", errno.ERANGE)
    service = start().ready()
    assert service.pf()["phase"] == "failed"
    assert "ERANGE" in service.pf()["failures"][0]["text"]
    assert service.pf(OTHER)["phase"] == "converged"


def test_a_host_without_sriov_is_ready_at_once(start: Start) -> None:
    service = start().ready()
    assert service.status["pfs"] == []


def test_with_an_invalid_policy_the_service_starts_and_changes_nothing(files: FakeKernel, start: Start) -> None:
    files.tree.add_pf(PF, vfs=1)
    files.tree.policy("[[pf]]\nvfs = many\n")
    service = start().ready()
    assert service.status["policy"]["problems"]
    assert files.writes() == []
    assert service.pf()["phase"] == "unmanaged"


@asynccontextmanager
async def running_agent(files: FakeKernel) -> AsyncIterator[Agent]:
    """An agent in this process, from READY to its end."""
    agent = Agent(files.host, files.tree.root)
    serving = asyncio.create_task(agent.run())
    await until(lambda: agent.is_ready)
    yield agent
    os.kill(os.getpid(), signal.SIGTERM)
    await serving
    os.close(agent._lock)  # else it is closed with the process


def test_a_new_resync_interval_is_active_after_the_reload(files: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only after the old interval of five minutes."""
    calls = list[str]()

    async def scenario() -> None:
        async with running_agent(files) as agent:
            often = replace(load(files.tree.root), agent=AgentRule(resync_s=0.1, metrics=""))
            monkeypatch.setattr("vfagent.store.policy_in_worker.load", lambda root: often)
            monkeypatch.setattr(agent.kernel_events, "reconcile_all", lambda: calls.append("all"))
            await agent.reloads.reload()
            while len(calls) < 4:
                await asyncio.sleep(0.01)

    run_to_end(scenario())


def reload(service: Service) -> None:
    before = service.hear().count("READY=1")
    service.signal(signal.SIGHUP)
    service.until(lambda: service.hear().count("READY=1") > before)


def test_a_reload_loads_the_new_policy(files: FakeKernel, start: Start) -> None:
    files.tree.add_pf(PF)
    service = start().ready()
    before = service.status["policy"]["digest"]
    files.tree.policy(POLICY.replace("2", "5"))
    reload(service)
    service.until(lambda: len(files.tree.vfs(PF)) == 5)
    assert service.status["policy"]["digest"] != before
    reloads = [text for text in service.notifications if text.startswith("RELOADING=1\nMONOTONIC_USEC=")]
    assert len(reloads) == 1
    assert service.notifications.index(reloads[0]) < len(service.notifications) - 1 - service.notifications[::-1].index(
        "READY=1"
    )


def test_a_reload_of_an_invalid_policy_keeps_the_active_one(files: FakeKernel, start: Start) -> None:
    files.tree.add_pf(PF)
    service = start().ready()
    before = service.status["policy"]["digest"]
    files.tree.policy(POLICY.replace("vfs", "vsf"))
    reload(service)
    service.until(lambda: service.status["policy"]["problems"])
    (problem,) = service.status["policy"]["problems"]
    assert "vsf" in problem
    assert service.status["policy"]["digest"] == before
    files.tree.make_vfs(PF, 0)
    send(message(f"/devices/pci0000:00/{PF}"))
    service.until(lambda: len(files.tree.vfs(PF)) == 2)
    files.tree.policy(POLICY)
    reload(service)
    service.until(lambda: service.status["policy"]["problems"] == [])


def test_a_release_that_a_reload_cannot_end_is_logged_with_its_pf(
    files: FakeKernel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(state: State, address: str) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    async def scenario() -> None:
        async with running_agent(files) as agent:
            await agent.reloads.reload()

    State(files.tree.root).release(PciAddress(PF))
    monkeypatch.setattr(State, "take_back", refuse)
    run_to_end(scenario())
    (record,) = (record for record in caplog.records if record.levelname == "WARNING")
    assert record.getMessage() == f"PF {PF}: cannot end its release: Read-only file system"
    assert vars(record)["VFAGENT_PF"] == PF


def test_a_thousand_reloads_end_with_the_last_policy_and_few_reconciles(files: FakeKernel, start: Start) -> None:
    files.tree.add_pf(PF)
    service = start().ready()
    rounds = service.pf()["rounds"]
    for _ in range(1000):
        service.signal(signal.SIGHUP)
    files.tree.policy(POLICY.replace("2", "3"))
    service.signal(signal.SIGHUP)
    service.until(lambda: len(files.tree.vfs(PF)) == 3)
    service.until(lambda: service.pf()["phase"] == "converged")
    assert service.pf()["rounds"] - rounds <= 20
    assert service.stop() == 0


def test_reloads_and_reconciles_leave_no_garbage(files: FakeKernel) -> None:
    """Reference cycles stay until a full collection, which an idle service may not do for hours."""
    files.tree.add_pf(PF)

    async def scenario() -> None:
        async with running_agent(files) as agent:
            pf = agent.scheduler.pfs[PciAddress(PF)]
            gc.collect()
            for count in (1, 2, 3):
                files.tree.policy(POLICY.replace("2", str(count)))
                await agent.reloads.reload()
                while pf.reconciling or pf.phase is not Phase.CONVERGED:
                    await asyncio.sleep(0.01)
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()

    try:
        run_to_end(scenario())
        assert [item for item in gc.garbage if type(item).__module__.startswith("vfagent")] == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


def test_a_worker_that_outlives_the_service_does_not_listen(files: FakeKernel, start: Start) -> None:
    """Else `vfagent guest start` could connect to the worker and wait for ever."""
    files.tree.add_pf(PF)
    files.slow_down(PF, "sriov_numvfs", 5.0)
    service = start()
    service.until(lambda: (files.tree.root / "run/vfagent/status.json").exists() and service.pf()["running_steps"])
    service.signal(signal.SIGKILL)
    service.process.wait()
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
        client.connect(str(files.tree.root / "run/vfagent/control.sock"))


def test_a_burst_of_signals_is_one_reload(files: FakeKernel, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        async with running_agent(files):
            for _ in range(100):
                os.kill(os.getpid(), signal.SIGHUP)
            while "is active" not in caplog.text:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)

    run_to_end(scenario())
    assert caplog.text.count("reloading the policy") == 1


def test_a_policy_that_takes_too_long_is_refused_and_stops_nothing(
    files: FakeKernel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def hang(_: Path) -> Policy:
        time.sleep(60)
        raise AssertionError

    async def scenario() -> None:
        async with running_agent(files) as agent:
            active = agent.scheduler.policy
            monkeypatch.setattr("vfagent.store.policy_in_worker.load", hang)
            monkeypatch.setattr("vfagent.store.policy_in_worker.LOAD_S", 0.5)
            began, turns = time.monotonic(), 0
            reloading = asyncio.create_task(agent.reloads.reload())
            while not reloading.done():
                await asyncio.sleep(0.01)
                turns += 1
            with pytest.raises(PolicyUnreadError):
                await reloading
            assert turns > 2, "the loop waited for it"
            assert time.monotonic() - began < 10
            assert agent.scheduler.policy is active
            assert agent.policy_status.problems

    run_to_end(scenario())
    assert "policy: cannot be read within 0.5 s" in caplog.text


def test_a_second_agent_is_refused(files: FakeKernel, start: Start) -> None:
    files.tree.add_pf(PF)
    first = start().ready()
    second = start()
    assert second.process.wait(10) == 1
    assert "the service: cannot run: another one is running" in second.log
    assert first.process.poll() is None
    assert first.stop() == 0
    start().ready()


def test_an_agent_after_a_killed_one_converges(files: FakeKernel, start: Start) -> None:
    """Killed while it creates VFs: its worker ends at its next report, and the next agent observes the host."""
    files.tree.add_pf(PF)
    files.slow_down(PF, "sriov_numvfs", 2.0)
    first = start()
    first.until(lambda: files.writes(PF, "sriov_drivers_autoprobe"))
    first.signal(signal.SIGKILL)
    first.process.wait(5)
    files.behave(PF, "sriov_numvfs")
    start().ready()
    assert len(files.tree.vfs(PF)) == 2


def test_sigterm_stops_the_service_and_leaves_the_vfs(files: FakeKernel, start: Start) -> None:
    files.tree.add_pf(PF)
    service = start().ready()
    began = time.monotonic()
    assert service.stop() == 0
    assert time.monotonic() - began < 3
    assert service.hear()[-1] == "STOPPING=1"
    assert len(files.tree.vfs(PF)) == 2


def test_sigterm_stops_the_service_while_a_write_hangs(files: FakeKernel, start: Start) -> None:
    files.tree.add_pf(PF)
    until = files.hang(PF, "sriov_numvfs")
    service = start()
    service.until(lambda: files.writes(PF, "sriov_drivers_autoprobe"))
    assert service.stop() == 0
    until.touch()


def test_a_new_pf_is_configured_after_its_event(files: FakeKernel, start: Start) -> None:
    service = start().ready()
    files.tree.add_pf(PF)
    send(message(f"/devices/pci0000:00/{PF}", action="add"))
    service.until(lambda: len(files.tree.vfs(PF)) == 2)
    service.until(lambda: [pf["phase"] for pf in service.status["pfs"]] == ["converged"])


def test_status_reports_the_failure_of_a_pf(files: FakeKernel, start: Start) -> None:
    files.tree.add_pf(PF)
    files.refuse(PF, "sriov_numvfs", errno.ENOMEM)
    service = start().ready()
    (failure,) = service.pf()["failures"]
    assert failure["text"].startswith(f"{PF}: cannot create 2 VFs on {PF}: ENOMEM (Cannot allocate memory): no room")
    assert "pci=realloc" in failure["hint"]
    service.until(lambda: any(text.startswith("STATUS=PFs: 1 failed") for text in service.hear()))


def test_the_service_runs_although_status_json_cannot_be_written(files: FakeKernel, start: Start) -> None:
    files.tree.add_pf(PF)
    (files.tree.root / "run/vfagent/status.json").mkdir(parents=True)
    service = start().ready()
    assert len(files.tree.vfs(PF)) == 2
    assert "cannot write status.json" in service.log


def test_a_failed_write_of_status_json_is_logged_once(files: FakeKernel, start: Start) -> None:
    files.tree.add_pf(PF)
    (files.tree.root / "run/vfagent/status.json").mkdir(parents=True)
    service = start().ready()
    files.tree.add_pf(OTHER)
    service.signal(signal.SIGHUP)
    service.until(lambda: len(files.tree.vfs(OTHER)) == 2)
    service.until(lambda: f"PF {OTHER}: converged" in service.log)
    assert service.log.count("cannot write status.json") == 1


@pytest.mark.parametrize("mount", ["nr_inodes=1", "ro"])
def test_pfs_converge_although_nothing_can_be_stored(files: FakeKernel, start: Start, mount: str) -> None:
    for name in ("run", "var/lib"):
        folder = files.tree.root / name / "vfagent"
        folder.mkdir(parents=True)
        run("mount", "-t", "tmpfs", "-o", f"mode=0750,{mount}", "tmpfs", str(folder))
    files.tree.add_pf(PF)
    service = start().ready()
    assert len(files.tree.vfs(PF)) == 2
    for expected in ("cannot listen at", "cannot write status.json", "cannot store what the PF was before"):
        service.until(lambda expected=expected: expected in service.log)  # type: ignore[misc]
    assert service.stop() == 0
    assert "Traceback" not in service.log


def test_the_watchdog_is_notified(files: FakeKernel, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    service = start().ready()
    service.until(lambda: service.hear().count("WATCHDOG=1") >= 5, within_s=5.0)


def test_a_resync_notifies_the_watchdog(files: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that at rest the watchdog is no wakeup more."""
    monkeypatch.setenv("WATCHDOG_USEC", "600000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    notified = list[float]()

    async def scenario() -> None:
        async with running_agent(files) as agent:
            monkeypatch.setattr(agent.notifier, "watchdog", lambda: notified.append(time.monotonic()))
            agent._resync()
            assert len(notified) == 1

    run_to_end(scenario())


def test_a_rule_for_another_host_waits_for_no_pf(files: FakeKernel) -> None:
    elsewhere = '[[pf]]\nname = "elsewhere"\nmatch = { driver = "igb", host = "no-such-host" }\n'
    put(files.tree.root / "etc/vfagent/policy.toml", POLICY + elsewhere)

    async def scenario() -> None:
        async with running_agent(files) as agent:
            assert agent.policy_status.rules == ("all",)

    run_to_end(scenario())
