# SPDX-License-Identifier: Apache-2.0
"""The helper that powers guests down, with sockets that behave like QEMU's, or worse."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vfagent.guests.ask import ask
from vfagent.guests.qmp import age_s, stop
from vfagent.guests.spec.boot import Boot, Loader
from vfagent.guests.spec.qemu import Guest
from vfagent.guests.spec.unit import unit_of
from vfagent.policy.types import GuestRule

ROOT = Path(__file__).parents[2]

Answer = Callable[[socket.socket], None]


@contextmanager
def qemu(path: Path, answer: Answer) -> Iterator[str]:
    """Accepts one connection, and lets `answer` handle it."""
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


def received(connection: socket.socket) -> list[str]:
    connection.sendall(b'{"QMP": {}}\r\n')
    data = b""
    while data.count(b"\n") < 2:
        data += connection.recv(4096)
    return [json.loads(line)["execute"] for line in data.splitlines()]


def ignore(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass


def test_stop_asks_for_powerdown_and_returns_when_qemu_has_exited(tmp_path: Path) -> None:
    requests: list[str] = []

    def power_down(connection: socket.socket) -> None:
        requests.extend(received(connection))
        connection.sendall(b'{"return": {}}\r\n' * 2)
        time.sleep(0.4)

    started = time.monotonic()
    with qemu(tmp_path / "qmp", power_down) as path:
        assert stop(path, 10)
    assert time.monotonic() - started >= 0.4
    assert requests == ["qmp_capabilities", "system_powerdown"]


def test_stop_returns_in_time_when_the_guest_ignores_it(tmp_path: Path) -> None:
    started = time.monotonic()
    with qemu(tmp_path / "qmp", ignore) as path:
        assert not stop(path, 1)
    assert 0.9 < time.monotonic() - started < 2


def test_a_flood_of_output_does_not_delay_the_timeout(tmp_path: Path) -> None:
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


def test_without_a_socket_stop_returns_at_once(tmp_path: Path) -> None:
    assert stop(str(tmp_path / "none"), 10)


def answers(*lines: str) -> Answer:
    def answer(connection: socket.socket) -> None:
        assert received(connection) == ["qmp_capabilities", "query-status"]
        for line in lines:
            connection.sendall(line.encode() + b"\r\n")

    return answer


def state_in(status: str) -> Answer:
    return answers('{"return": {}}', f'{{"return": {{"status": "{status}", "running": false}}}}')


@pytest.mark.parametrize(
    ("state", "status"), [("running", 64), ("paused", 65), ("io-error", 66), ("internal-error", 67), ("suspended", 1)]
)
def test_exec_reload_tells_the_run_state_by_its_exit_status(tmp_path: Path, state: str, status: int) -> None:
    with qemu(tmp_path / "qmp", state_in(state)) as path:
        assert run(exec_reload(path)).returncode == status


def exec_reload(socket_path: str) -> list[str]:
    guest = Guest(GuestRule(name="x", vfs=("a:0",)), (), Boot(Loader.DISK), kvm=True, uuid="")
    commands: Any = next(item.value for item in unit_of(guest, ()).properties if item.name == "ExecReload")
    [(program, words, may_fail)] = commands
    assert (program, may_fail) == ("/usr/libexec/vfagent/ask-guest", True)
    return [str(ROOT / "packaging/ask-guest"), *(socket_path if word == guest.qmp else word for word in words[1:])]


def test_an_answer_in_many_pieces_after_events_is_read(tmp_path: Path) -> None:
    def slow(connection: socket.socket) -> None:
        received(connection)
        for byte in b'{"event": "STOP"}\r\n{"return": {}}\r\n{"return": {"status": "io-error"}}\r\n':
            with contextlib.suppress(BrokenPipeError):  # the answer is complete before its last byte
                connection.sendall(bytes([byte]))

    with qemu(tmp_path / "qmp", slow) as path:
        assert ask(path) == "io-error"


@pytest.mark.parametrize(
    "answer",
    [
        answers(),
        answers('{"return": {"status": "' + "x" * 99 + '"}}'),
        answers('{"return": {"status": 5}}', "\0\x1b[2J"),
        answers("x" * (1 << 17), '{"return": {"status": "running"}}'),  # beyond what is read
    ],
    ids=["nothing", "too long", "no word", "flood"],
)
def test_what_is_no_run_state_is_no_answer(tmp_path: Path, answer: Answer) -> None:
    def hostile(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            answer(connection)

    with qemu(tmp_path / "qmp", hostile) as path:
        assert ask(path) is None


def test_a_qemu_that_hangs_is_no_answer_in_time(tmp_path: Path) -> None:
    started = time.monotonic()
    with qemu(tmp_path / "qmp", ignore) as path:
        assert run(exec_reload(path)).returncode == 1
    assert 2.5 < time.monotonic() - started < 6
    assert ask(str(tmp_path / "none")) is None


def exec_stop(socket_path: str, seconds: int) -> list[str]:
    """A guest's ExecStop, with the helper where `make install` takes it from."""
    rule = GuestRule(name="x", vfs=("a:0",), unit=(("TimeoutStopSec", f"{seconds + 2}s"),))
    guest = Guest(rule, (), Boot(Loader.DISK), kvm=True, uuid="")
    commands: Any = next(item.value for item in unit_of(guest, ()).properties if item.name == "ExecStop")
    [(program, words, _)] = commands
    assert program == words[0] == "/usr/libexec/vfagent/stop-guest"
    return [str(ROOT / "packaging/stop-guest"), *(socket_path if word == guest.qmp else word for word in words[1:])]


def earlier_exec_stop(socket_path: str, seconds: int) -> list[str]:
    """As the units of guests have it that vfagent started before it had /usr/libexec/vfagent."""
    return ["/usr/bin/python3", "-sP", "-m", "vfagent.host.qmp", "stop", socket_path, str(seconds)]


def run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(argv, env=environment, cwd="/", capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", [exec_stop, earlier_exec_stop])
def test_exec_stop_powers_the_guest_down(tmp_path: Path, command: Callable[[str, int], list[str]]) -> None:
    requests: list[str] = []
    with qemu(tmp_path / "qmp", lambda connection: requests.extend(received(connection))) as path:
        done = run(command(path, 10))
    assert (done.returncode, done.stderr) == (0, "")
    assert requests == ["qmp_capabilities", "system_powerdown"]


@pytest.mark.parametrize("command", [exec_stop, earlier_exec_stop])
def test_exec_stop_reports_a_guest_that_does_not_power_down(
    tmp_path: Path, command: Callable[[str, int], list[str]]
) -> None:
    with qemu(tmp_path / "qmp", ignore) as path:
        done = run(command(path, 1))
    assert (done.returncode, done.stderr) == (0, "the guest did not power down within 1 s; systemd kills it\n")


def test_the_helper_explains_its_arguments() -> None:
    done = run([str(ROOT / "packaging/stop-guest")])
    assert (done.returncode, done.stderr) == (2, "usage: stop-guest SOCKET SECONDS\n")


def test_the_timeout_includes_the_start_of_python() -> None:
    program = "import time; time.sleep(0.3); from vfagent.guests.qmp import age_s; print(age_s())"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert 0.3 <= float(done.stdout) < 10
    assert age_s() > float(done.stdout)
