# SPDX-License-Identifier: Apache-2.0
"""The service as systemd sees it: a process with signals, a notification socket and files."""

import asyncio
import errno
import gc
import json
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
from vfagent.kernel.udev import QUEUE, STORED
from vfagent.model.pci import PciAddress
from vfagent.model.status import Phase
from vfagent.policy.types import AgentRule, Policy
from vfagent.service.agent import Agent
from vfagent.store.policy_files import load

pytestmark = pytest.mark.usefixtures("kernel")

PROJECT = Path(__file__).parents[2]
PF, OTHER = "0000:01:00.0", "0000:02:00.0"
POLICY = '[[pf]]\nname = "all"\nmatch = { driver = "igb" }\nvfs = 2\n'


class Service:
    """One agent, and what systemd was told by it so far."""

    def __init__(self, root: Path, sock: socket.socket, address: Path) -> None:
        self.root, self.logged, self._socket = root, list[str](), sock
        log = open(root / "log", "a")  # noqa: SIM115
        environment = {**os.environ, "NOTIFY_SOCKET": str(address), "PYTHONPATH": str(PROJECT)}
        argv = [sys.executable, "-m", "tests.host.agent_process", str(root)]
        self.process = subprocess.Popen(argv, cwd=PROJECT, env=environment, stderr=log)
        log.close()

    def hear(self) -> list[str]:
        """All that was said. systemd goes on reading: the socket's queue is short."""
        while True:
            try:
                self.logged.append(self._socket.recv(1 << 16).decode())
            except BlockingIOError:
                return self.logged

    def until(self, condition: Callable[[], object], *, within_s: float = 15.0) -> None:
        end = time.monotonic() + within_s
        while True:
            self.hear()
            if condition():
                return
            assert self.process.poll() is None, self.log
            assert time.monotonic() < end, self._stuck()
            time.sleep(0.02)

    def _stuck(self) -> str:
        """Where it was, as faulthandler writes it to its log."""
        self.signal(signal.SIGABRT)
        self.process.wait(5)
        return f"{self.logged}\n{self.log}"

    def ready(self) -> "Service":
        self.until(lambda: "READY=1" in self.hear())
        return self

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        end = time.monotonic() + 10
        while self.process.poll() is None and time.monotonic() < end:
            self.hear()
            time.sleep(0.02)
        return self.process.wait(0)

    @property
    def log(self) -> str:
        return (self.root / "log").read_text()

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / "run/vfagent/status.json").read_text())
        return found

    def pf(self, address: str = PF) -> dict[str, Any]:
        (found,) = (pf for pf in self.status["pfs"] if pf["address"] == address)
        return dict(found)


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


def test_ready_is_said_when_the_pfs_found_at_start_have_converged(files: FakeKernel, start: Start) -> None:
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


def test_a_reload_in_the_course_of_the_start_is_not_its_end(files: FakeKernel, start: Start) -> None:
    files.tree.add_pf(PF)
    files.slow_down(PF, "sriov_numvfs", 2.0)
    service = start()
    service.until(lambda: files.writes(PF, "sriov_drivers_autoprobe"))
    service.signal(signal.SIGHUP)
    service.until(lambda: "reloading the policy" in service.log and service.log.count("in force, from"))
    assert "READY=1" not in service.hear()
    service.ready()
    assert len(files.tree.vfs(PF)) == 2


def test_what_was_begun_before_the_loop_is_taken_over_by_it(files: FakeKernel, start: Start) -> None:
    for address in (PF, OTHER):
        files.tree.add_pf(address)
        files.slow_down(address, "sriov_numvfs", 1.5)
    put(files.tree.root / STORED / f"+pci:{PF}", "")  # the other one is the loop's
    service = start()
    service.until(lambda: files.writes(PF, "sriov_drivers_autoprobe"))
    assert not (files.tree.root / "run/vfagent/status.json").exists()
    service.ready()
    assert {pf["phase"] for pf in service.status["pfs"]} == {"converged"}
    for address in (PF, OTHER):
        assert [write.text for write in files.writes(address, "sriov_numvfs")] == ["2"]
    assert f"pf {PF}: create 2 VFs on {PF}" in service.log
    before = service.pf()["rounds"]
    service.until(lambda: service.pf()["rounds"] > before)  # for what may have come before it listened


def waiting_for_a_driver(files: FakeKernel, start: Start) -> Service:
    """A service that has found a PF without a driver, while udev has events to handle."""
    files.tree.add_pf(PF)
    files.tree.bind(PF, None)
    put(files.tree.root / QUEUE, "")
    service = start()
    service.until(lambda: (files.tree.root / "run/vfagent/status.json").exists())
    return service


def test_a_pf_that_udev_has_not_done_with_is_not_looked_at(files: FakeKernel, start: Start) -> None:
    """It would cost the boot a worker's time where it has least to spare, and find nothing."""
    service = waiting_for_a_driver(files, start)
    time.sleep(2.5)
    assert service.pf()["rounds"] == 0
    assert (service.pf()["phase"], service.pf()["waiting"]) == ("waiting", ["udev has not finished with the PF"])


def test_ready_waits_for_a_driver_that_udev_is_still_to_load(files: FakeKernel, start: Start) -> None:
    """The lab: udev had stored the device four seconds before it loaded igb."""
    service = waiting_for_a_driver(files, start)
    time.sleep(1.5)
    assert "READY=1" not in service.hear()
    put(files.tree.root / STORED / f"+pci:{PF}", "")
    files.tree.bind(PF, "igb")
    send(message(f"/devices/pci0000:00/{PF}", action="bind"))
    service.ready()
    assert len(files.tree.vfs(PF)) == 2


def test_a_driver_that_udev_does_not_load_is_not_waited_for(files: FakeKernel, start: Start) -> None:
    service = waiting_for_a_driver(files, start)
    (files.tree.root / QUEUE).unlink()
    began = time.monotonic()
    service.ready()
    assert time.monotonic() - began < 5
    assert service.pf()["phase"] == "unmanaged"


def test_a_device_that_udev_never_hears_of_is_looked_at_now_and_then(files: FakeKernel, start: Start) -> None:
    put(files.tree.root / UDEV_KNOWS_NOTHING, "")
    service = waiting_for_a_driver(files, start)
    (files.tree.root / QUEUE).unlink()
    before = service.pf()["rounds"]
    time.sleep(3.0)
    assert 1 <= service.pf()["rounds"] - before <= 4


def test_ready_is_said_when_a_pf_has_been_reported_as_failed(files: FakeKernel, start: Start) -> None:
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


def test_without_a_valid_policy_the_service_starts_and_touches_nothing(files: FakeKernel, start: Start) -> None:
    files.tree.add_pf(PF, vfs=1)
    files.tree.policy("[[pf]]\nvfs = many\n")
    service = start().ready()
    assert service.status["policy"]["problems"]
    assert files.writes() == []
    assert service.pf()["phase"] == "unmanaged"


@asynccontextmanager
async def at_work(files: FakeKernel) -> AsyncIterator[Agent]:
    """In this process, from READY to its end; what is done with it has ten seconds."""
    agent = Agent(files.host, files.tree.root)
    serving = asyncio.create_task(agent.run())
    async with asyncio.timeout(10):
        while not agent.is_ready:
            await asyncio.sleep(0.01)
        yield agent
    os.kill(os.getpid(), signal.SIGTERM)
    await serving
    os.close(agent._lock)  # which else ends with the process


def test_another_resync_is_in_force_with_its_reload(files: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when the five minutes before it have run out."""
    looks = list[str]()

    async def scenario() -> None:
        async with at_work(files) as agent:
            often = replace(load(files.tree.root), agent=AgentRule(resync_s=0.1, metrics=""))
            monkeypatch.setattr("vfagent.service.agent.load", lambda root: often)
            monkeypatch.setattr(agent.kernel_events, "reconcile_all", lambda: looks.append("all"))
            agent.reload()
            while len(looks) < 4:
                await asyncio.sleep(0.01)

    run_to_end(scenario())


def reload(service: Service) -> None:
    before = service.hear().count("READY=1")
    service.signal(signal.SIGHUP)
    service.until(lambda: service.hear().count("READY=1") > before)


def test_a_reload_takes_the_new_policy(files: FakeKernel, start: Start) -> None:
    files.tree.add_pf(PF)
    service = start().ready()
    before = service.status["policy"]["digest"]
    files.tree.policy(POLICY.replace("2", "5"))
    reload(service)
    service.until(lambda: len(files.tree.vfs(PF)) == 5)
    assert service.status["policy"]["digest"] != before
    logged = [words for words in service.logged if words.startswith("RELOADING=1\nMONOTONIC_USEC=")]
    assert len(logged) == 1
    assert service.logged.index(logged[0]) < len(service.logged) - 1 - service.logged[::-1].index("READY=1")


def test_an_invalid_policy_at_reload_leaves_the_one_in_force(files: FakeKernel, start: Start) -> None:
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


def test_a_storm_of_reloads_is_survived_and_soon_over(files: FakeKernel, start: Start) -> None:
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


def test_reloads_and_their_looks_leave_no_garbage(files: FakeKernel) -> None:
    """Objects that hold each other stay until a full collection, which a service at rest may not do for hours."""
    files.tree.add_pf(PF)

    async def scenario() -> None:
        async with at_work(files) as agent:
            pf = agent.scheduler.pfs[PciAddress(PF)]
            gc.collect()
            for count in (1, 2, 3):
                files.tree.policy(POLICY.replace("2", str(count)))
                agent.reload()
                while pf.reconciling or pf.phase is not Phase.CONVERGED:
                    await asyncio.sleep(0.01)
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()

    try:
        run_to_end(scenario())
        assert [one for one in gc.garbage if type(one).__module__.startswith("vfagent")] == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


def test_a_worker_that_outlives_the_service_listens_for_nobody(files: FakeKernel, start: Start) -> None:
    """Else a verb for guests would be taken by it, and never answered."""
    files.tree.add_pf(PF)
    files.slow_down(PF, "sriov_numvfs", 5.0)
    service = start()
    service.until(lambda: (files.tree.root / "run/vfagent/status.json").exists() and service.pf()["running_steps"])
    service.signal(signal.SIGKILL)
    service.process.wait()
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
        client.connect(str(files.tree.root / "run/vfagent/control.sock"))


def test_a_burst_of_reloads_is_one(files: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = list[Path]()

    def counted(root: Path) -> Policy:
        loads.append(root)
        return load(root)

    async def scenario() -> None:
        async with at_work(files):
            monkeypatch.setattr("vfagent.service.agent.load", counted)
            for _ in range(100):
                os.kill(os.getpid(), signal.SIGHUP)
            while not loads:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)

    run_to_end(scenario())
    assert len(loads) == 1


def test_a_second_agent_is_refused(files: FakeKernel, start: Start) -> None:
    files.tree.add_pf(PF)
    first = start().ready()
    second = start()
    assert second.process.wait(10) == 1
    assert "the service: cannot run: another one is running" in second.log
    assert first.process.poll() is None
    assert first.stop() == 0
    start().ready()


def test_a_killed_agent_is_followed_by_another(files: FakeKernel, start: Start) -> None:
    """In the middle of making VFs: its worker ends at its next report, and the next agent finds what there is."""
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


def test_sigterm_is_obeyed_while_a_write_hangs(files: FakeKernel, start: Start) -> None:
    files.tree.add_pf(PF)
    until = files.hang(PF, "sriov_numvfs")
    service = start()
    service.until(lambda: files.writes(PF, "sriov_drivers_autoprobe"))
    assert service.stop() == 0
    until.touch()


def test_an_event_is_answered_by_the_service(files: FakeKernel, start: Start) -> None:
    service = start().ready()
    files.tree.add_pf(PF)
    send(message(f"/devices/pci0000:00/{PF}", action="add"))
    service.until(lambda: len(files.tree.vfs(PF)) == 2)
    service.until(lambda: [pf["phase"] for pf in service.status["pfs"]] == ["converged"])


def test_status_names_what_is_wrong_with_a_pf(files: FakeKernel, start: Start) -> None:
    files.tree.add_pf(PF)
    files.refuse(PF, "sriov_numvfs", errno.ENOMEM)
    service = start().ready()
    (failure,) = service.pf()["failures"]
    assert failure["text"].startswith(f"{PF}: cannot create 2 VFs on {PF}: ENOMEM (Cannot allocate memory): no room")
    assert "pci=realloc" in failure["hint"]
    service.until(lambda: any(words.startswith("STATUS=PFs: 1 failed") for words in service.hear()))


def test_a_status_that_cannot_be_written_does_not_stop_the_service(files: FakeKernel, start: Start) -> None:
    files.tree.add_pf(PF)
    (files.tree.root / "run/vfagent/status.json").mkdir(parents=True)
    service = start().ready()
    assert len(files.tree.vfs(PF)) == 2
    assert "cannot write status.json" in service.log


def test_a_status_that_cannot_be_written_is_told_once(files: FakeKernel, start: Start) -> None:
    files.tree.add_pf(PF)
    (files.tree.root / "run/vfagent/status.json").mkdir(parents=True)
    service = start().ready()
    files.tree.add_pf(OTHER)
    service.signal(signal.SIGHUP)
    service.until(lambda: len(files.tree.vfs(OTHER)) == 2)
    service.until(lambda: f"pf {OTHER}: converged" in service.log)
    assert service.log.count("cannot write status.json") == 1


@pytest.mark.parametrize("mount", ["nr_inodes=1", "ro"])
def test_where_nothing_can_be_stored_pfs_converge_all_the_same(files: FakeKernel, start: Start, mount: str) -> None:
    for name in ("run", "var/lib"):
        folder = files.tree.root / name / "vfagent"
        folder.mkdir(parents=True)
        run("mount", "-t", "tmpfs", "-o", f"mode=0750,{mount}", "tmpfs", str(folder))
    files.tree.add_pf(PF)
    service = start().ready()
    assert len(files.tree.vfs(PF)) == 2
    for what in ("cannot listen at", "cannot write status.json", "cannot store what the PF was before"):
        service.until(lambda what=what: what in service.log)  # type: ignore[misc]
    assert service.stop() == 0
    assert "Traceback" not in service.log


def test_the_watchdog_is_fed(files: FakeKernel, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    service = start().ready()
    service.until(lambda: service.hear().count("WATCHDOG=1") >= 5, within_s=5)
