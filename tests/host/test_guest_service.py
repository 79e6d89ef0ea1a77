# SPDX-License-Identifier: Apache-2.0
"""The service with a guest: `vfagent guest`, a kill, and a restart."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.host.fake_kernel import FakeKernel
from tests.host.fake_systemd import fake_systemd
from tests.host.guest_rig import PF, POLICY
from tests.host.leaks import run_to_end
from tests.host.namespace import ip
from tests.host.scrape import ask, value
from tests.host.test_agent import Service
from vfagent.cli.main import main

pytestmark = pytest.mark.usefixtures("kernel")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A host with a PF, a policy with a guest, and a systemd."""
    files = FakeKernel(tmp_path / "root")
    files.tree.policy(POLICY)
    files.tree.add_pf(PF)
    with fake_systemd(files.tree.root) as (address, _):
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        yield files.tree.root


@pytest.fixture
def services(root: Path, tmp_path: Path) -> Iterator[list[Service]]:
    started: list[Service] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(0)
        started.append(Service(root, systemd, tmp_path / "notify"))
        yield started
        for service in started:
            service.process.kill()
            service.process.wait()


def guest(service: Service) -> dict[str, Any]:
    guests = service.status["guests"] if (service.root / "run/vfagent/status.json").exists() else []
    return dict(guests[0]) if guests else {"phase": None}


def command(root: Path, *words: str) -> int:
    return main(["guest", "--root", str(root), *words])


def test_guest_start_stop_and_list_work_on_the_running_service(
    root: Path, services: list[Service], capsys: pytest.CaptureFixture[str]
) -> None:
    [service] = services
    service.until(lambda: guest(service)["phase"] == "running")
    assert command(root, "stop", "x") == 0
    service.until(lambda: guest(service)["phase"] == "stopped")
    assert command(root, "start", "x") == 0
    service.until(lambda: guest(service)["phase"] == "running")
    assert command(root, "start", "nobody") == 1
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "vfagent: guest nobody: cannot start it: there is no such guest",
        "  (vfagent guest list shows them)",
    ]
    assert command(root, "list", "--json") == 0
    assert json.loads(capsys.readouterr().out)["guests"][0]["phase"] == "running"


def test_a_restarted_service_takes_over_running_guests(root: Path, services: list[Service], tmp_path: Path) -> None:
    [service] = services
    service.until(lambda: guest(service)["phase"] == "running")
    before = guest(service)["pid"]
    service.signal(signal.SIGKILL)
    service.process.wait()
    assert command(root, "start", "x") == 6
    services.append(Service(root, service._socket, tmp_path / "notify"))
    services[1].until(lambda: services[1].status["pid"] == services[1].process.pid)
    services[1].until(lambda: guest(services[1])["phase"] == "running")
    assert guest(services[1])["pid"] == before
    assert services[1].stop() == 0
    assert not (root / "run/vfagent/control.sock").exists()


def page() -> str:
    return run_to_end(ask()).text


def test_metrics_follow_a_guest_from_start_to_crash_and_restart(root: Path, services: list[Service]) -> None:
    ip("link", "set", "lo", "up")
    [service] = services
    service.until(lambda: guest(service)["phase"] == "running")
    service.until(lambda: value(page(), "vfagent_guest_phase", 'phase="running"') == 1)
    metrics = page()
    assert value(metrics, "vfagent_vf_guest_info", f'pf="{PF}"', 'vf="0"', 'guest="x"') == 1
    assert value(metrics, "vfagent_guest_info", 'unit="vfagent-guest-x.service"', 'loader="iPXE image"') == 1
    assert value(metrics, "vfagent_guest_starts_total") == 1
    assert value(metrics, "vfagent_guest_start_time_seconds") == guest(service)["started_at"]
    os.kill(guest(service)["pid"], signal.SIGKILL)
    service.until(lambda: value(page(), "vfagent_guest_phase", 'phase="failed"') == 1)
    assert "vfagent_vf_guest_info" not in page()
    assert "vfagent_guest_start_time_seconds" not in page()
    assert command(root, "start", "x") == 0
    service.until(lambda: value(page(), "vfagent_guest_phase", 'phase="running"') == 1)
    assert value(page(), "vfagent_guest_starts_total") == 2
    assert value(page(), "vfagent_guest_start_failures_total") == 0
