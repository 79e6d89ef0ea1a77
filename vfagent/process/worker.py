# SPDX-License-Identifier: Apache-2.0
"""Disposable child processes for what can hang in the kernel, beyond the reach of any signal.

Forked, not started anew: every module is loaded already, and pages are shared until they are written to.
"""

import contextlib
import gc
import os
import pickle
import select
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

_LENGTH = struct.Struct("=I")
_CHUNK = 1 << 16
_TOGETHER_S = 0.05

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
            yield from pickle.loads(body)  # from our own child, over a pipe that only it holds

    def kill(self) -> None:
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def ends_within(self, seconds: float) -> bool:
        end = select.poll()
        end.register(self.pidfd, select.POLLIN)
        return bool(end.poll(seconds * 1000))

    def close(self) -> int:
        """After the child's end: collect it and its descriptors; returns its exit status."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        os.close(self.reports)
        return os.waitstatus_to_exitcode(status)


def start(body: Callable[[Send], None], *, close: tuple[int, ...] = ()) -> Worker:
    """Run `body` in a child; what it sends arrives in `Worker.read`. `close`: descriptors it must not keep.

    Raises OSError where there is no memory, process or descriptor left for it; then nothing of it is left.
    """
    reading, writing = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        raise
    if pid == 0:
        os.close(reading)
        _child(body, writing, close)
    os.close(writing)
    os.set_blocking(reading, False)
    return Worker(pid, _pidfd(pid, reading), reading)


def _pidfd(pid: int, reading: int) -> int:
    """A child that nobody can watch must not work."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reading)
        raise


@dataclass(slots=True)
class Standby:
    """A child that was forked ahead of its task, and waits for it."""

    worker: Worker
    _orders: int

    def begin(self, task: Any) -> bool:
        """Give it the task. False where that cannot be done at once: then it is of no use any more."""
        body = pickle.dumps(task, pickle.HIGHEST_PROTOCOL)
        order = _LENGTH.pack(len(body)) + body
        try:
            return os.write(self._orders, order) == len(order)
        except (BlockingIOError, BrokenPipeError):
            return False
        finally:
            os.close(self._orders)

    def dismiss(self) -> None:
        """It ends as it would without a parent."""
        os.close(self._orders)


def prepare(body: Callable[[Any, Send], None], warm_up: Callable[[], None], *, close: tuple[int, ...] = ()) -> Standby:
    """Fork a child that calls `warm_up` now, and `body` when it is given a task.

    The rehearsal makes the child's own copies of the pages that the work writes to: that, and the fork, are most
    of what a new worker costs.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def wait(send: Send) -> None:
        os.close(writing)
        warm_up()
        with os.fdopen(reading, "rb") as orders:
            head = orders.read(_LENGTH.size)
            if head:  # else the parent is gone
                body(pickle.loads(orders.read(*_LENGTH.unpack(head))), send)

    try:
        worker = start(wait, close=close)
    except OSError:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    return Standby(worker, writing)


def _child(body: Callable[[Send], None], writing: int, close: tuple[int, ...]) -> None:
    status = 1
    try:
        _leave_parent(close)
        send = _Sender(writing)
        try:
            body(send)
        finally:
            send.flush()
        status = 0
    except BrokenPipeError:
        pass  # the parent is gone: stop at the step that was reached
    except BaseException:
        traceback.print_exc(file=sys.stderr)
    finally:
        os._exit(status)


def _leave_parent(close: tuple[int, ...]) -> None:
    """The parent's signals and locks are not ours: a lock that outlived it in a stuck child would lock out its heir."""
    gc.disable()  # it is short-lived, and a collection would write to every page that it shares
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # systemctl kill sends it to every process of the unit
    for fd in close:
        os.close(fd)


class _Sender:
    """Reports on their way: those of one moment travel together, because each message wakes the parent."""

    def __init__(self, writing: int) -> None:
        self._writing = writing
        self._waiting: list[Any] = []
        self._lock = threading.Lock()
        self._writing_lock = threading.Lock()
        self._asked = threading.Event()
        self._parent = select.poll()
        self._parent.register(writing, 0)  # POLLERR, which needs no asking: nobody reads any more
        threading.Thread(target=self._flush_often, daemon=True).start()

    def __call__(self, report: Any) -> None:
        """Raises BrokenPipeError when the parent is gone."""
        with self._lock:
            if self._parent.poll(0):
                raise BrokenPipeError
            self._waiting.append(report)
        self._asked.set()

    def flush(self) -> None:
        with self._writing_lock:
            with self._lock:
                reports, self._waiting = self._waiting, []
            if reports:
                body = pickle.dumps(reports, pickle.HIGHEST_PROTOCOL)
                self._write(memoryview(_LENGTH.pack(len(body)) + body))

    def _write(self, data: memoryview) -> None:
        while data:
            data = data[os.write(self._writing, data) :]

    def _flush_often(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # told to whoever sends next
            while self._asked.wait():
                time.sleep(_TOGETHER_S)
                self._asked.clear()
                self.flush()
