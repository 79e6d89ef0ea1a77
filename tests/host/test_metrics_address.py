# SPDX-License-Identifier: Apache-2.0
"""The address of /metrics: TCP, Unix sockets, reloads and errors."""

import asyncio
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.namespace import ip
from tests.host.scrape import PORT, REQUEST, ask
from tests.host.test_metrics import WHERE, serving
from vfagent.metrics.endpoint import Endpoint
from vfagent.policy.types import AgentRule


@pytest.fixture(autouse=True)
def network(kernel: None) -> None:
    ip("link", "set", "lo", "up")


def test_without_an_address_in_the_policy_nothing_is_served() -> None:
    async def body(served: Endpoint) -> None:
        assert served.descriptors == ()

    serving(body, "")


def test_ipv6_and_localhost_are_served() -> None:
    async def body(served: Endpoint) -> None:
        reader, writer = await asyncio.open_connection("::1", PORT)
        writer.write(REQUEST)
        assert (await reader.read(-1)).startswith(b"HTTP/1.1 200")
        writer.close()
        served.configure(AgentRule(metrics=f"localhost:{PORT + 1}"))
        assert (await ask(port=PORT + 1)).status == 200

    serving(body, f"[::1]:{PORT}")


def test_an_address_that_is_added_later_is_served() -> None:
    async def body(_: Endpoint) -> None:
        ip("address", "add", "192.0.2.1/32", "dev", "lo")
        reader, writer = await asyncio.open_connection("192.0.2.1", PORT)
        writer.write(REQUEST)
        assert (await reader.read(-1)).startswith(b"HTTP/1.1 200")
        writer.close()

    serving(body, f"192.0.2.1:{PORT}", metrics_public=True)


REBOUND = b"GET /metrics HTTP/1.1\r\nHost: rebound.example:9862\r\n\r\n"


def test_a_name_that_is_not_the_hosts_is_refused_on_loopback_alone(tmp_path: Path) -> None:
    async def refused(served: Endpoint) -> None:
        assert (await ask(REBOUND)).status == 421
        served.configure(AgentRule(metrics=f"0.0.0.0:{PORT}", metrics_public=True))
        assert (await ask(REBOUND)).status == 200
        served.configure(AgentRule(metrics=f"unix:{tmp_path}/socket"))
        assert (await ask(REBOUND, path=f"{tmp_path}/socket")).status == 200

    serving(refused)


def test_a_reload_moves_the_server() -> None:
    async def body(served: Endpoint) -> None:
        before = served.descriptors
        served.configure(AgentRule(metrics=WHERE, resync_s=60))
        assert served.descriptors == before
        served.configure(AgentRule(metrics=f"127.0.0.1:{PORT + 1}"))
        assert (await ask(port=PORT + 1)).status == 200
        with pytest.raises(ConnectionRefusedError):
            await ask()
        served.configure(AgentRule(metrics=WHERE))
        assert (await ask()).status == 200
        served.configure(AgentRule(metrics=""))
        with pytest.raises(ConnectionRefusedError):
            await ask()

    serving(body)


def test_a_port_in_use_is_reported_and_retried(caplog: pytest.LogCaptureFixture) -> None:
    async def body(served: Endpoint) -> None:
        assert f"metrics: cannot listen on {WHERE}: EADDRINUSE" in caplog.text
        assert f"sport = :{PORT}" in caplog.text
        other.close()
        served.configure(AgentRule(metrics=WHERE))
        assert (await ask()).status == 200

    with socket.create_server(("127.0.0.1", PORT)) as other:
        serving(body)


def test_a_privileged_port_is_reported_with_a_hint(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)

    async def body(_: Endpoint) -> None:
        assert "cannot listen on 127.0.0.1:80: EACCES" in caplog.text
        assert "a port below 1024" in caplog.text

    serving(body, "127.0.0.1:80")


@pytest.fixture
def path(tmp_path: Path) -> Iterator[str]:
    yield str(tmp_path / "metrics.sock")
    assert not os.path.lexists(tmp_path / "metrics.sock")


def test_a_unix_socket_has_mode_0660_and_is_removed_at_the_end(path: str) -> None:
    async def body(_: Endpoint) -> None:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
        assert (await ask(path=path)).status == 200

    before = os.umask(0o027)
    serving(body, f"unix:{path}")
    os.umask(before)


CLIENT = """
import os, socket, sys
os.setgroups([])
os.setresgid(int(sys.argv[2]), int(sys.argv[2]), int(sys.argv[2]))
os.setresuid(65534, 65534, 65534)
with socket.socket(socket.AF_UNIX) as client:
    client.connect(sys.argv[1])
"""


@pytest.mark.parametrize(("group", "errors"), [(4242, 0), (4243, 1)])
def test_a_socket_in_a_folder_with_the_set_group_id_bit_is_open_to_its_group_alone(group: int, errors: int) -> None:
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        os.chown(folder, 0, 4242)
        os.chmod(folder, 0o2750)

        async def body(_: Endpoint) -> None:
            argv = [sys.executable, "-c", CLIENT, f"{folder}/socket", str(group)]
            assert subprocess.run(argv, stderr=subprocess.DEVNULL, check=False).returncode == errors

        serving(body, f"unix:{folder}/socket")


def test_the_socket_of_a_killed_agent_is_replaced(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)

    async def body(_: Endpoint) -> None:
        assert (await ask(path=path)).status == 200

    serving(body, f"unix:{path}")


def test_the_socket_of_another_program_is_left_alone(path: str, caplog: pytest.LogCaptureFixture) -> None:
    async def body(_: Endpoint) -> None:
        assert "EADDRINUSE" in caplog.text

    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()
        serving(body, f"unix:{path}")
        assert os.path.lexists(path)
        os.unlink(path)


def test_a_file_at_the_path_of_the_socket_is_left_alone(path: str, caplog: pytest.LogCaptureFixture) -> None:
    Path(path).write_text("precious")

    async def body(_: Endpoint) -> None:
        assert "EEXIST" in caplog.text

    serving(body, f"unix:{path}")
    assert Path(path).read_text() == "precious"
    os.unlink(path)
