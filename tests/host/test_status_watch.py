# SPDX-License-Identifier: Apache-2.0
"""`status --watch` on a terminal of 80 columns and 24 lines."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.metrics import views
from vfagent.model.codec import encode
from vfagent.model.status import Status
from vfagent.store.state import write_json

PROJECT = Path(__file__).parents[2]
OPENED, CLOSED = b"\x1b[?1049h", b"\x1b[?25h\x1b[?1049l"


class Watch:
    """The command, and its unread output on the terminal."""

    def __init__(self, root: Path, **environment: str) -> None:
        self.terminal, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        # A shell's background jobs ignore SIGINT, and what they start does too.
        argv = [
            "env",
            "--default-signal=INT",
            sys.executable,
            "-m",
            "vfagent",
            "status",
            "--watch",
            "--root",
            str(root),
        ]
        kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            argv, cwd=PROJECT, stdin=other, stdout=other, stderr=other, env=kept | environment, start_new_session=True
        )
        os.close(other)
        os.set_blocking(self.terminal, False)
        self._unread = b""

    def until(self, text: bytes) -> bytes:
        """All output up to this text; the rest is for the next call."""
        end = time.monotonic() + 15
        while text not in self._unread:
            assert time.monotonic() < end, self._unread
            try:
                self._unread += os.read(self.terminal, 1 << 16)
            except BlockingIOError:
                time.sleep(0.02)
        before, _, self._unread = self._unread.partition(text)
        return before + text

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(10)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "run/vfagent").mkdir(parents=True)
    put(tmp_path, views.view().status)
    return tmp_path


def put(root: Path, status: Status) -> None:
    write_json(root / "run/vfagent/status.json", encode(status))


@pytest.fixture
def watch(root: Path) -> Iterator[Watch]:
    started = Watch(root)
    yield started
    started.process.kill()
    started.process.wait()
    os.close(started.terminal)


def test_the_screen_follows_the_status(root: Path, watch: Watch) -> None:
    first = watch.until(b"cirros")
    assert OPENED in first
    assert b"\x1b[33mconverging\x1b[0m" in first
    put(root, replace(views.view().status, guests=()))
    watch.until(b"VFs, 1 in use\x1b[K")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_terminal_is_restored_at_the_end(watch: Watch, number: int, status: int) -> None:
    watch.until(b"cirros")
    assert watch.end(number) == status
    watch.until(CLOSED)


def test_the_screen_stays_while_the_service_is_stopped(root: Path, watch: Watch) -> None:
    watch.until(b"cirros")
    (root / "run/vfagent/status.json").unlink()
    watch.until(b"\x1b[Hthe service is not running")
    watch.until(b"cirros")  # what was seen last is still there
    put(root, views.view().status)
    watch.until(b"\x1b[Hvfagent 1.2.3")


def test_no_color_disables_colour(root: Path) -> None:
    watch = Watch(root, NO_COLOR="1")
    written = watch.until(b"cirros")
    assert b"\x1b[3" not in written
    assert b"\x1b[1m" not in written
    watch.end(signal.SIGINT)
    os.close(watch.terminal)


def test_without_a_terminal_it_writes_plain_lines(root: Path) -> None:
    argv = [sys.executable, "-m", "vfagent", "status", "--watch", "--root", str(root)]
    with subprocess.Popen(argv, cwd=PROJECT, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline().startswith(b"vfagent 1.2.3")
        process.kill()
