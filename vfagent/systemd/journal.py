# SPDX-License-Identifier: Apache-2.0
"""Log records to the journal, with fields, and notifications to the service manager."""

import asyncio
import logging
import os
import socket
import sys
import time


def setup_logging(*, debug: bool) -> None:
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[_handler()], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _handler() -> logging.Handler:
    if not _stderr_is_the_journal():
        terminal = logging.StreamHandler(sys.stderr)
        terminal.setFormatter(logging.Formatter("vfagent: %(message)s"))
        return terminal
    from systemd.journal import JournalHandler

    journal: logging.Handler = JournalHandler(SYSLOG_IDENTIFIER="vfagent")
    journal.setFormatter(logging.Formatter("%(message)s"))
    return journal


def _stderr_is_the_journal() -> bool:
    """By device and inode, as systemd.exec(5) says: a terminal that a user service started inherits the variable."""
    try:
        stderr = os.fstat(2)
    except OSError:  # it is closed
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{stderr.st_dev}:{stderr.st_ino}"


class Notifier:
    """sd_notify(3) that never blocks.

    systemd.daemon.notify() waits where the service manager's queue is full: as long as PID 1 hangs, the PFs would not
    be reconciled. What does not fit is sent when the queue has room: the last state of each variable, in the order in
    which they were set. Without NOTIFY_SOCKET nothing is sent.
    """

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        pid = os.environ.get("WATCHDOG_PID", str(os.getpid()))
        microseconds = os.environ.get("WATCHDOG_USEC", "0") if pid == str(os.getpid()) else "0"
        self.watchdog_s = int(microseconds) / 1e6 if microseconds.isdigit() else 0.0
        self._unsent: dict[str, str] = {}  # by the variable's name
        self._blocked: socket.socket | None = None  # connected; writable when the queue has room

    def _send(self, text: str, *, keep: bool = True) -> None:
        if not self._address or (self._blocked and not keep):
            return
        name = text.partition("=")[0]
        self._unsent.pop(name, None)
        self._unsent[name] = text
        if not self._blocked:
            self._send_all(
                socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
            )

    def _send_all(self, sender: socket.socket) -> None:
        try:
            sender.connect(self._address)
            for name, text in list(self._unsent.items()):
                sender.send(text.encode())
                del self._unsent[name]
        except BlockingIOError:
            self._await_room(sender)
            return
        except OSError as error:
            logging.getLogger(__name__).warning("cannot notify systemd: %s", error)
            self._unsent.clear()
        if self._blocked:
            asyncio.get_running_loop().remove_writer(sender)
        self._blocked = None
        sender.close()

    def _await_room(self, sender: socket.socket) -> None:
        if not self._blocked:
            self._blocked = sender
            asyncio.get_running_loop().add_writer(sender, self._send_all, sender)

    def ready(self) -> None:
        self._send("READY=1")

    def status(self, text: str) -> None:
        self._send(f"STATUS={text}", keep=False)

    def reloading(self) -> None:
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        self._send("WATCHDOG=1")

    def extend_start(self, seconds: float) -> None:
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}", keep=False)
