# SPDX-License-Identifier: Apache-2.0
"""systemd's two sockets: the journal, with fields, and the service's notifications.

Through systemd-python where it is there. It is sdist-only on PyPI, so in a virtual environment the notification
is one datagram of our own and the log goes to standard error with priorities (sd-daemon(3)).
"""

import asyncio
import logging
import os
import socket
import sys
import time

_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def setup_logging(*, debug: bool) -> None:
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[_handler()], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    # It warns at import that /proc/net/psched is hidden; traffic control is none of ours.
    logging.getLogger("pyroute2").setLevel(logging.ERROR)


def _handler() -> logging.Handler:
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if "JOURNAL_STREAM" not in os.environ:
        handler.setFormatter(logging.Formatter("vfagent: %(message)s"))
        return handler
    try:
        from systemd.journal import JournalHandler
    except ImportError:
        handler.setFormatter(_Prefixed())
        return handler
    journal: logging.Handler = JournalHandler(SYSLOG_IDENTIFIER="vfagent")
    journal.setFormatter(logging.Formatter("%(message)s"))
    return journal


class _Prefixed(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"<{_PRIORITY.get(record.levelno, 6)}>{super().format(record)}"


class Notifier:
    """sd_notify(3) that never waits: PID 1's queue is full only while that hangs, and our PFs are not to hang with it.

    What must be heard is said once there is room: the last word of each kind, in the order of these. Without
    NOTIFY_SOCKET nothing is sent.
    """

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        pid = os.environ.get("WATCHDOG_PID", str(os.getpid()))
        microseconds = os.environ.get("WATCHDOG_USEC", "0") if pid == str(os.getpid()) else "0"
        self.watchdog_s = int(microseconds) / 1e6 if microseconds.isdigit() else 0.0
        self._unsent: dict[str, str] = {}  # by the variable's name
        self._blocked: socket.socket | None = None  # connected: it can be written to when the queue has room

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
