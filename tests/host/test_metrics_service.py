# SPDX-License-Identifier: Apache-2.0
"""/metrics of the service: its values, and that scraping and reconciling do not disturb each other."""

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.fake_kernel import FakeKernel
from tests.host.leaks import run_to_end
from tests.host.namespace import ip
from tests.host.scrape import PORT, REQUEST, Answer, ask, value
from tests.host.test_agent import OTHER, PF, POLICY, Service, reload
from tests.host.uevents import message, send


@pytest.fixture(autouse=True)
def network(kernel: None) -> None:
    ip("link", "set", "lo", "up")


@pytest.fixture
def files(tmp_path: Path) -> FakeKernel:
    files = FakeKernel(tmp_path / "root")
    files.tree.policy(POLICY)
    return files


@pytest.fixture
def service(files: FakeKernel, tmp_path: Path) -> Iterator[Service]:
    """Started with two PFs, and perhaps not ready yet."""
    for address in (PF, OTHER):
        files.tree.add_pf(address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(0)
        started = Service(files.tree.root, systemd, tmp_path / "notify")
        yield started
        started.process.kill()
        started.process.wait()


def scrape(*, port: int = PORT, path: str = "") -> Answer:
    return run_to_end(ask(port=port, path=path))


def phase(page: str, address: str) -> str:
    phases = [line for line in page.splitlines() if line.startswith("vfagent_pf_phase") and address in line]
    (active,) = (line for line in phases if line.endswith(" 1.0"))
    return active.partition('phase="')[2].partition('"')[0]


def test_the_page_shows_the_same_as_the_status(service: Service) -> None:
    service.ready()
    page = scrape().text
    assert phase(page, PF) == phase(page, OTHER) == "converged"
    assert value(page, "vfagent_pf_vfs_desired", PF) == value(page, "vfagent_pf_vfs_actual", PF) == 2
    assert value(page, "vfagent_policy_info", service.status["policy"]["digest"]) == 1
    assert value(page, "vfagent_policy_last_reload_success_timestamp_seconds") == service.status["policy"]["loaded_at"]
    assert value(page, "vfagent_steps_total", 'step="set_numvfs"') == 2
    assert value(page, "vfagent_convergence_duration_seconds_count") == 2
    assert value(page, "vfagent_round_duration_seconds_count") == value(page, "vfagent_rounds_total") >= 4
    assert value(page, "vfagent_vf_info", PF, 'vf="1"', 'pci_address="0000:01:10.1"', 'driver="igbvf"') == 1
    assert value(page, "vfagent_ready") == 1


def test_promtool_accepts_the_page_of_the_service(service: Service) -> None:
    page = scrape_when_ready(service).body
    done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def scrape_when_ready(service: Service) -> Answer:
    service.ready()
    return scrape()


def test_drift_is_counted(files: FakeKernel, service: Service) -> None:
    assert value(scrape_when_ready(service).text, "vfagent_drift_total", "numvfs") == 0
    files.tree.make_vfs(PF, 0)
    send(message(f"/devices/pci0000:00/{PF}"))
    service.until(lambda: len(files.tree.vfs(PF)) == 2)
    service.until(lambda: value(scrape().text, "vfagent_uevents_total") == 1)
    service.until(lambda: value(scrape().text, "vfagent_drift_total", "numvfs") == 1)


def test_a_write_that_hangs_does_not_slow_a_scrape(files: FakeKernel, service: Service) -> None:
    service.ready()
    until = files.hang(PF, "sriov_numvfs")
    files.tree.make_vfs(PF, 0)
    send(message(f"/devices/pci0000:00/{PF}"))
    service.until(lambda: service.pf()["running_steps"])
    times = []
    for _ in range(10):
        began = time.monotonic()
        page = scrape().text
        times.append(time.monotonic() - began)
        assert phase(page, PF) == "converging"
        assert phase(page, OTHER) == "converged"
        time.sleep(0.05)
    assert sorted(times)[5] < 0.2
    until.touch()


def test_workers_inherit_neither_the_listener_nor_a_connection(files: FakeKernel, service: Service) -> None:
    """A worker may hang for ever: the next agent could not listen on the port."""
    service.ready()
    files.hang(PF, "sriov_numvfs")
    files.tree.make_vfs(PF, 0)
    with socket.create_connection(("127.0.0.1", PORT)):
        send(message(f"/devices/pci0000:00/{PF}"))
        service.until(lambda: service.pf()["running_steps"])
        children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children")
        service.until(lambda: len(children.read_text().split()) == 1)  # those that only read the policy have ended
        (worker,) = children.read_text().split()
        held = {os.readlink(fd) for fd in Path(f"/proc/{worker}/fd").iterdir()}
        table = Path(f"/proc/{worker}/net/tcp").read_text().splitlines()[1:]
        inodes = {f"socket:[{line.split()[9]}]" for line in table}
        assert len(inodes) >= 3  # the listener, and a connection's two ends
        assert not held & inodes
    os.kill(int(worker), signal.SIGKILL)


def test_an_invalid_policy_and_its_correction_are_shown(files: FakeKernel, service: Service) -> None:
    assert value(scrape_when_ready(service).text, "vfagent_policy_last_reload_successful") == 1
    files.tree.policy(POLICY.replace("vfs", "vsf"))
    reload(service)
    service.until(lambda: value(scrape().text, "vfagent_policy_last_reload_successful") == 0)
    files.tree.policy(POLICY)
    reload(service)
    service.until(lambda: value(scrape().text, "vfagent_policy_last_reload_successful") == 1)


def test_a_reload_moves_the_server_to_a_unix_socket(files: FakeKernel, service: Service, tmp_path: Path) -> None:
    service.ready()
    path = tmp_path / "metrics.sock"
    files.tree.policy(f'agent.metrics = "unix:{path}"\n{POLICY}')
    reload(service)
    assert scrape(path=str(path)).status == 200
    with pytest.raises(ConnectionRefusedError):
        scrape()
    assert service.stop() == 0
    assert not path.exists()


def test_a_port_in_use_does_not_stop_the_service(files: FakeKernel, tmp_path: Path) -> None:
    files.tree.add_pf(PF)
    with (
        socket.create_server(("127.0.0.1", PORT)) as other,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
    ):
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(0)
        service = Service(files.tree.root, systemd, tmp_path / "notify").ready()
        assert "cannot listen on 127.0.0.1:9862: EADDRINUSE" in service.log
        assert len(files.tree.vfs(PF)) == 2
        other.close()
        reload(service)
        assert scrape().status == 200
        assert service.stop() == 0


def test_many_scrapes_change_neither_reconciling_nor_memory(files: FakeKernel, service: Service) -> None:
    service.ready()

    async def storm() -> set[int]:
        """A hundred scrapes, as many at once as there may be connections: beyond that a slow client is closed."""
        answers = [await asyncio.gather(*(ask(REQUEST) for _ in range(50))) for _ in range(2)]
        return {answer.status for together in answers for answer in together}

    run_to_end(storm())
    before = _resident_kib(service)
    for count in (5, 3, 6):
        files.tree.policy(POLICY.replace("2", str(count)))
        reload(service)
        assert run_to_end(storm()) == {200}
        service.until(lambda count=count: len(files.tree.vfs(PF)) == count)  # type: ignore[misc]
    service.until(lambda: service.pf()["phase"] == "converged")
    assert _resident_kib(service) - before < 2048


def _resident_kib(service: Service) -> int:
    lines = Path(f"/proc/{service.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
