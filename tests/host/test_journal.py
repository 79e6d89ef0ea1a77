# SPDX-License-Identifier: Apache-2.0
"""Notifications and log records to systemd, on real sockets."""

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vfagent.systemd.journal import Notifier, setup_logging

ROOT = Path(__file__).parents[2]
OTHERS_STATUS = b"STATUS=another service"


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The service manager's end of the notification socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(0)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield receiver


def test_ready_reaches_systemd(manager: socket.socket) -> None:
    Notifier().ready()
    assert manager.recv(4096) == b"READY=1"


def test_each_state_is_its_own_datagram(manager: socket.socket) -> None:
    notifier = Notifier()
    notifier.status("PFs: 2 converged")
    notifier.watchdog()
    notifier.stopping()
    notifier.extend_start(60)
    datagrams = [manager.recv(4096) for _ in range(4)]
    assert datagrams == [b"STATUS=PFs: 2 converged", b"WATCHDOG=1", b"STOPPING=1", b"EXTEND_TIMEOUT_USEC=60000000"]


def test_a_full_notification_socket_does_not_block_and_gets_the_states_later(manager: socket.socket) -> None:
    async def body() -> list[str]:
        fill(manager)
        notifier = Notifier()
        for _ in range(3):
            notifier.watchdog()
        notifier.status("PFs: 2 converged")
        notifier.reloading()
        notifier.ready()
        received = await until_ready(manager)
        notifier.watchdog()
        return received + receive_all(manager)

    received = [text.partition("\n")[0] for text in asyncio.run(body()) if text != OTHERS_STATUS.decode()]
    assert received == [
        "WATCHDOG=1",
        "RELOADING=1",
        "READY=1",
        "WATCHDOG=1",
    ]  # a lost status is followed by another


def test_unsent_reloads_become_one_finished_reload(manager: socket.socket) -> None:
    """However many reloads: the unsent states do not grow, and the last of them is READY."""

    async def body() -> list[str]:
        notifier = Notifier()
        notifier.watchdog()
        fill(manager)
        for _ in range(100):
            notifier.reloading()
            notifier.ready()
        return await until_ready(manager)

    received = [text.partition("\n")[0] for text in asyncio.run(body()) if text != OTHERS_STATUS.decode()]
    assert received == ["WATCHDOG=1", "RELOADING=1", "READY=1"]


async def until_ready(manager: socket.socket) -> list[str]:
    """The states received up to READY."""
    received = list[str]()
    async with asyncio.timeout(5):
        while "READY=1" not in received:
            await asyncio.sleep(0.01)
            received += receive_all(manager)
    return received


def fill(manager: socket.socket) -> None:
    """Until nobody can send to it. One sender is not enough where the queue is long: its own buffer is full first."""
    with contextlib.ExitStack() as senders:
        while True:
            sender = senders.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
            sender.connect(manager.getsockname())
            if not sent_until_it_blocks(sender):
                return


def sent_until_it_blocks(sender: socket.socket) -> int:
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sender.send(OTHERS_STATUS)
            count += 1
    return count


def receive_all(manager: socket.socket) -> list[str]:
    received = list[str]()
    with contextlib.suppress(BlockingIOError):
        while True:
            received.append(manager.recv(4096).decode())
    return received


def test_reloading_has_a_monotonic_time(manager: socket.socket) -> None:
    """Type=notify-reload needs the time of the monotonic clock, in microseconds."""
    before = time.monotonic_ns() // 1000
    Notifier().reloading()
    first, second = manager.recv(4096).decode().split("\n")
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


def test_an_abstract_socket_address_works(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"vfagent-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{name}")
        receiver.settimeout(0)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        Notifier().ready()
        assert receiver.recv(4096) == b"READY=1"


def test_without_a_notification_socket_nothing_is_sent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notifier = Notifier()
    notifier.ready()
    assert notifier.watchdog_s == 0
    assert not caplog.records


def test_a_missing_notification_socket_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    Notifier().ready()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize(
    ("pid", "microseconds", "seconds"),
    [("mine", "30000000", 30.0), ("other", "30000000", 0.0), ("mine", "soon", 0.0), ("mine", "", 0.0)],
)
def test_the_watchdog_interval_is_that_of_this_process(
    monkeypatch: pytest.MonkeyPatch, pid: str, microseconds: str, seconds: float
) -> None:
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() if pid == "mine" else 1))
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    assert Notifier().watchdog_s == seconds


PROGRAM = """
import logging
from vfagent.systemd.journal import setup_logging
setup_logging(debug=False)
logging.error("pf %s: stuck", "x", extra={"VFAGENT_PF": "x"})
logging.debug("not logged")
"""


def logged(stderr: Path, journal_stream: str | None) -> str:
    """What another process writes to its standard error, a file, when it logs."""
    variables = {key: value for key, value in os.environ.items() if key != "JOURNAL_STREAM"}
    if journal_stream is not None:
        variables["JOURNAL_STREAM"] = journal_stream
    with stderr.open("w") as file:
        subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, env=variables, stderr=file, check=True)
    return stderr.read_text()


@pytest.mark.parametrize("journal_stream", [None, "8:1"], ids=["", "inherited from the terminal's own unit"])
def test_without_systemd_the_log_goes_to_stderr(tmp_path: Path, journal_stream: str | None) -> None:
    assert logged(tmp_path / "stderr", journal_stream) == "vfagent: pf x: stuck\n"


@pytest.mark.usefixtures("kernel")
def test_a_journal_record_has_fields(tmp_path: Path) -> None:
    """/run is the test's own here."""
    os.makedirs("/run/systemd/journal")
    stderr = tmp_path / "stderr"
    stderr.touch()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind("/run/systemd/journal/socket")
        journal.settimeout(0)
        assert logged(stderr, f"{stderr.stat().st_dev}:{stderr.stat().st_ino}") == ""
        fields = journal.recv(1 << 16).decode().splitlines()
        with pytest.raises(BlockingIOError):
            journal.recv(1)
    assert {"MESSAGE=pf x: stuck", "PRIORITY=3", "SYSLOG_IDENTIFIER=vfagent", "VFAGENT_PF=x"} <= set(fields)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_debug_shows_kernel_calls(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    setup_logging(debug=True)
    logging.getLogger("vfagent.kernel.sysfs").debug("write %s", "x")
    assert capsys.readouterr().err == "vfagent: write x\n"
