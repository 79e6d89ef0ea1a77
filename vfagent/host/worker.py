# SPDX-License-Identifier: Apache-2.0
"""Disposable child processes for what can hang in the kernel, beyond the reach of any signal.

Forked, not started anew: every module is loaded already, and pages are shared until they are written to.
"""

import os
import pickle
import signal
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

_LENGTH = struct.Struct("=I")
_CHUNK = 1 << 16

Send = Callable[[Any], None]


@dataclass(slots=True)
class Worker:
    """A child at work: what it reports can be read from `reports`, its end from `pidfd`."""

    pid: int
    pidfd: int
    reports: int
    _buffer: bytearray = field(default_factory=bytearray)

    def read(self) -> Iterator[Any]:
        """The reports that are there now. The pipe is not blocking."""
        while True:
            try:
                chunk = os.read(self.reports, _CHUNK)
            except BlockingIOError:
                break
            self._buffer += chunk
            if not chunk:
                break
        yield from self._complete()

    def _complete(self) -> Iterator[Any]:
        while len(self._buffer) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._buffer)
            if len(self._buffer) < _LENGTH.size + size:
                return
            body = bytes(self._buffer[_LENGTH.size : _LENGTH.size + size])
            del self._buffer[: _LENGTH.size + size]
            yield pickle.loads(body)  # from our own child, over a pipe that only it holds

    def kill(self) -> None:
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def close(self) -> int:
        """After the child's end: collect it and its descriptors; returns its exit status."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        os.close(self.reports)
        return os.waitstatus_to_exitcode(status)


def start(body: Callable[[Send], None], *, close: tuple[int, ...] = ()) -> Worker:
    """Run `body` in a child; what it sends arrives in `Worker.read`. `close`: descriptors it must not keep."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _child(body, writing, close)
    os.close(writing)
    os.set_blocking(reading, False)
    return Worker(pid, os.pidfd_open(pid), reading)


def _child(body: Callable[[Send], None], writing: int, close: tuple[int, ...]) -> None:
    status = 1
    try:
        _leave_parent(close)
        body(_sender(writing))
        status = 0
    except BrokenPipeError:
        pass  # the parent is gone: stop at the step that was reached
    except BaseException:
        traceback.print_exc(file=sys.stderr)
    finally:
        os._exit(status)


def _leave_parent(close: tuple[int, ...]) -> None:
    """The parent's signals and locks are not ours: a lock that outlived it in a stuck child would lock out its heir."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    for fd in close:
        os.close(fd)


def _sender(writing: int) -> Send:
    lock = threading.Lock()

    def send(report: Any) -> None:
        body = pickle.dumps(report, pickle.HIGHEST_PROTOCOL)
        data = memoryview(_LENGTH.pack(len(body)) + body)
        with lock:
            while data:
                data = data[os.write(writing, data) :]

    return send
