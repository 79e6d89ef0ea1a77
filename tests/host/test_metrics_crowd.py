# SPDX-License-Identifier: Apache-2.0
"""/metrics while local users take all its connections, and whom it then takes for whom."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.host.leaks import run_to_end
from tests.host.namespace import ip
from tests.host.scrape import PORT, ask
from tests.host.test_metrics import serving
from vfagent.kernel import socket_diag
from vfagent.metrics.endpoint import Endpoint
from vfagent.metrics.server import peer

CROWD = """
import os, select, socket, sys
port, number, user = map(int, sys.argv[1:])
os.setresuid(user, user, user)
connections, waiting = {}, select.epoll()
def connect():
    new = socket.socket()
    new.setblocking(False)
    new.connect_ex(("127.0.0.1", port))
    connections[new.fileno()] = new
    waiting.register(new.fileno(), select.EPOLLIN | select.EPOLLHUP)
for _ in range(number):
    connect()
while True:
    for fd, _ in waiting.poll():
        waiting.unregister(fd)
        connections.pop(fd).close()
        connect()
"""


@pytest.fixture(autouse=True)
def network(kernel: None) -> None:
    ip("link", "set", "lo", "up")


def crowd(number: int, uid: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", CROWD, str(PORT), str(number), str(uid)])


def test_two_processes_with_400_connections_each_do_not_delay_scrapes_beyond_their_timeout() -> None:
    """They say nothing, and connect again at once when they are disconnected. Prometheus gives up after 10 s."""

    async def body(served: Endpoint) -> None:
        assert served.descriptors
        processes = [crowd(400, uid) for uid in (65534, 33)]
        try:
            await asyncio.sleep(1.5)
            for _ in range(5):
                began = time.monotonic()
                assert (await ask()).status == 200
                assert time.monotonic() - began < 5
        finally:
            for process in processes:
                process.send_signal(signal.SIGKILL)
                process.wait()

    serving(body)


def test_local_clients_are_known_by_their_user_whatever_address_they_take() -> None:
    child = """
import os, socket, sys
os.setresuid(65534, 65534, 65534)
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), source_address=(sys.argv[3], 0))
sys.stdin.read()
"""
    for family, at, source in ((socket.AF_INET, "127.0.0.1", "127.9.9.9"), (socket.AF_INET6, "::1", "::1")):
        with socket.create_server((at, 0), family=family) as listener:
            argv = [sys.executable, "-c", child, at, str(listener.getsockname()[1]), source]
            with subprocess.Popen(argv, stdin=subprocess.PIPE) as process:
                connection, _ = listener.accept()
                assert peer(connection, ask=True) == 65534
                process.communicate()
                assert peer(connection, ask=True) in {b"\x7f", bytes(8)}  # not user 0, whom the kernel says
                connection.close()


def test_clients_of_a_unix_socket_are_known_by_their_user(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        client.connect(str(tmp_path / "socket"))
        connection, _ = listener.accept()
        assert peer(connection, ask=False) == os.getuid()
        connection.close()


def test_a_remote_host_is_its_address_and_an_ipv6_host_its_subnet() -> None:
    class Connection(socket.socket):
        def getpeername(self) -> tuple[str, int]:
            return self.remote, 7

        def getsockname(self) -> tuple[str, int]:
            return self.remote, 8

        remote = ""

    with Connection() as connection:
        seen = []
        for connection.remote in ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1"):
            seen.append(peer(connection, ask=True))
    assert len(set(seen)) == 4
    assert seen[2] == seen[3]


def test_a_kernel_that_knows_no_users_is_asked_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> bool:
        return False

    asked: list[object] = []
    monkeypatch.setattr(socket_diag, "answers", missing)
    monkeypatch.setattr(socket_diag, "owner", lambda *ports: asked.append(ports))

    async def body(_: Endpoint) -> None:
        process = crowd(100, 65534)
        await asyncio.sleep(1)
        assert (await ask()).status == 200
        process.kill()
        process.wait()

    serving(body)
    assert asked == []


def test_the_kernel_answers() -> None:
    async def run() -> None:
        assert socket_diag.answers()

    run_to_end(run())
