# SPDX-License-Identifier: Apache-2.0
"""The helper that waits for a guest's end, against sockets that behave like QEMU's, and worse."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vfagent.guests.qmp import age_s, stop

Answer = Callable[[socket.socket], None]


@contextmanager
def qemu(path: Path, answer: Answer) -> Iterator[str]:
    """One connection, answered."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        server.settimeout(10)

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield str(path)
        thread.join()


def heard(connection: socket.socket) -> list[str]:
    connection.sendall(b'{"QMP": {}}\r\n')
    data = b""
    while data.count(b"\n") < 2:
        data += connection.recv(4096)
    return [json.loads(line)["execute"] for line in data.splitlines()]


def test_it_asks_for_powerdown_and_returns_when_qemu_is_gone(tmp_path: Path) -> None:
    found: list[str] = []

    def power_down(connection: socket.socket) -> None:
        found.extend(heard(connection))
        connection.sendall(b'{"return": {}}\r\n' * 2)
        time.sleep(0.4)

    started = time.monotonic()
    with qemu(tmp_path / "qmp", power_down) as path:
        assert stop(path, 10)
    assert time.monotonic() - started >= 0.4
    assert found == ["qmp_capabilities", "system_powerdown"]


def test_a_guest_that_ignores_it_is_given_up_in_the_stated_time(tmp_path: Path) -> None:
    def ignore(connection: socket.socket) -> None:
        while connection.recv(4096):
            pass

    started = time.monotonic()
    with qemu(tmp_path / "qmp", ignore) as path:
        assert not stop(path, 1)
    assert 0.9 < time.monotonic() - started < 2


def test_a_flood_is_no_answer(tmp_path: Path) -> None:
    def flood(connection: socket.socket) -> None:
        try:
            while True:
                connection.sendall(b"x" * (1 << 16))
        except OSError:
            pass

    started = time.monotonic()
    with qemu(tmp_path / "qmp", flood) as path:
        assert not stop(path, 1)
    assert time.monotonic() - started < 2


def test_without_a_socket_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    assert stop(str(tmp_path / "none"), 10)


def test_the_unit_runs_it_as_a_program(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "vfagent.guests.qmp"]
    assert subprocess.run([*argv, "stop", str(tmp_path / "none"), "5"], check=False).returncode == 0
    assert subprocess.run(argv, check=False, stderr=subprocess.DEVNULL).returncode == 2


def test_the_time_python_took_to_start_counts() -> None:
    program = "import time; time.sleep(0.3); from vfagent.guests.qmp import age_s; print(age_s())"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert 0.3 <= float(done.stdout) < 10
    assert age_s() > float(done.stdout)
