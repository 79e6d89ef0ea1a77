# SPDX-License-Identifier: Apache-2.0
"""`vfagent guest console` on a terminal: text in both directions, one at a time, the terminal as it was after it."""

import os
import pty
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


class Guest:
    """Its QEMU's end of the socket."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "run/vfagent-guest-x"
        self.folder.mkdir(parents=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.folder / "console"))
        self._listener.listen(1)
        self.connection: socket.socket | None = None

    def accept(self) -> socket.socket:
        self._listener.settimeout(20)
        self.connection, _ = self._listener.accept()
        self.connection.settimeout(20)
        return self.connection

    def close(self) -> None:
        self._listener.close()
        if self.connection:
            self.connection.close()


class Session:
    """A user's terminal, on which the command runs."""

    def __init__(self, root: Path) -> None:
        self._screen, terminal = pty.openpty()
        os.set_blocking(self._screen, False)
        self.before = termios.tcgetattr(terminal)
        self._terminal = terminal
        command = [sys.executable, "-m", "vfagent", "guest", "--root", str(root), "console", "x"]
        self.process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal)
        self.shown = b""

    def type(self, text: bytes) -> None:
        os.write(self._screen, text)

    def until(self, done: Callable[[], object], within_s: float = 20.0) -> None:
        end = time.monotonic() + within_s
        while not done():
            assert time.monotonic() < end, self.shown
            if not self._read():
                time.sleep(0.02)

    def _read(self) -> bool:
        try:
            self.shown += os.read(self._screen, 4096)
        except BlockingIOError:
            return False
        return True

    def ended(self) -> int:
        self.until(lambda: self.process.poll() is not None)
        while self._read():  # what it wrote last
            pass
        assert termios.tcgetattr(self._terminal) == self.before
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._screen)
        os.close(self._terminal)


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    guest = Guest(tmp_path)
    yield guest
    guest.close()


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Callable[[], Session]]:
    sessions = []

    def start() -> Session:
        sessions.append(Session(tmp_path))
        return sessions[-1]

    yield start
    for opened in sessions:
        opened.close()


def test_text_goes_both_ways_until_the_escape(guest: Guest, session: Callable[[], Session]) -> None:
    user = session()
    console = guest.accept()
    console.sendall(b"\x1b[1mlogin: ")
    user.until(lambda: b"\x1b[1mlogin: " in user.shown)
    user.type(b"root\r\x03\x1a")  # a terminal that is not raw makes signals of the last two
    assert console.recv(64) == b"root\r\x03\x1a"
    user.type(b"bye\x1dlost")
    assert console.recv(64) == b"bye"
    assert user.ended() == 0
    assert b"it runs on" in user.shown
    assert console.recv(64) == b""


def test_a_console_ends_with_its_guest(guest: Guest, session: Callable[[], Session]) -> None:
    user = session()
    guest.accept().close()
    assert user.ended() == 0
    assert b"guest x: it has ended" in user.shown


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(
    guest: Guest, session: Callable[[], Session], number: signal.Signals
) -> None:
    user = session()
    guest.accept()
    user.until(lambda: b"ends this console" in user.shown)
    user.process.send_signal(number)
    assert user.ended() == 128 + number


def test_a_second_console_is_refused(guest: Guest, session: Callable[[], Session]) -> None:
    first = session()
    console = guest.accept()
    second = session()
    assert second.ended() == 1
    assert b"guest x: cannot open its console: another vfagent guest console has it open" in second.shown
    first.type(b"still here")
    assert console.recv(64) == b"still here"


def test_a_guest_that_reads_nothing_does_not_hold_the_user_up(guest: Guest, session: Callable[[], Session]) -> None:
    user = session()
    guest.accept()
    user.until(lambda: b"ends this console" in user.shown)
    for _ in range(300):
        user.until(lambda: True)
        user.type(b"x" * 1000)
        time.sleep(0.002)
    user.type(b"\x1d")
    assert user.ended() == 0


def test_a_socket_of_another_user_is_refused(guest: Guest, session: Callable[[], Session]) -> None:
    """As one to which a link leads that who has broken out into QEMU put there."""
    os.chown(guest.folder, 12345, 12345)
    user = session()
    assert user.ended() == 1
    assert b"cannot open its console: user 0 listens there, and the guest's user is 12345" in user.shown


def test_a_guest_that_does_not_run_has_no_console(tmp_path: Path, session: Callable[[], Session]) -> None:
    user = session()
    assert user.ended() == 1
    assert b"guest x: cannot open its console: it does not run" in user.shown
    assert not (tmp_path / "run").exists()
