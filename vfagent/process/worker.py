# SPDX-License-Identifier: Apache-2.0
"""Disposable child processes for kernel calls that may hang uninterruptibly.

They are forked without exec: every module is already loaded, and pages are shared until they are written to.
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

from vfagent.errors import VfagentError

_LENGTH = struct.Struct("=I")
_CHUNK = 1 << 16
_BATCH_S = 0.05

MOST = min(16, 4 * len(os.sched_getaffinity(0)))
"""Workers with a stream at once. Each takes 5 MiB; their kernel calls sleep, so that a processor has work for a few."""

Send = Callable[[Any], None]


class NoWorkerError(VfagentError):
    """Nothing was begun: there is no process, memory or descriptor for a worker, or an earlier one hangs."""


class NoAnswerError(VfagentError):
    """A worker ended without an answer; `timed_out`: it was silent for too long."""

    def __init__(self, message: str, *, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


@dataclass(slots=True)
class Worker:
    """A running child: `reports` is readable when it has sent a report, `pidfd` when it has exited."""

    pid: int
    pidfd: int
    reports: int
    at_end: bool = False  # it sends no more reports
    _buffer: bytearray = field(default_factory=bytearray)

    def read(self) -> Iterator[Any]:
        """The reports that have arrived. The pipe does not block."""
        while True:
            try:
                chunk = os.read(self.reports, _CHUNK)
            except BlockingIOError:
                break
            self._buffer += chunk
            if not chunk:
                self.at_end = True
                break
        yield from self._complete()

    def _complete(self) -> Iterator[Any]:
        while len(self._buffer) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._buffer)
            if len(self._buffer) < _LENGTH.size + size:
                return
            body = bytes(self._buffer[_LENGTH.size : _LENGTH.size + size])
            del self._buffer[: _LENGTH.size + size]
            yield from pickle.loads(body)  # from our own child, over a pipe that only it can write to

    def first_report(self, within_s: float) -> Any:
        """Wait for it, without an event loop. Raises NoAnswerError."""
        arrived, end = select.poll(), time.monotonic() + within_s
        arrived.register(self.reports, select.POLLIN)
        while (left := end - time.monotonic()) > 0 and arrived.poll(left * 1000):
            ended = self.ends_within(0)
            for report in self.read():
                return report
            if ended:
                raise NoAnswerError("the worker has ended")
        raise NoAnswerError(f"no answer within {within_s:g} s", timed_out=True)

    def kill(self) -> None:
        """Nothing where it was reaped already."""
        if self.pidfd >= 0:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def ends_within(self, seconds: float) -> bool:
        end = select.poll()
        end.register(self.pidfd, select.POLLIN)
        return bool(end.poll(seconds * 1000))

    def close(self) -> int:
        """After the child has exited: reap it and close its descriptors; returns its exit status."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        os.close(self.reports)
        self.pidfd = self.reports = -1
        return os.waitstatus_to_exitcode(status)


def start(body: Callable[[Send], None], *, close: tuple[int, ...] = ()) -> Worker:
    """Run `body` in a child. `Worker.read` returns what it sends. `close`: descriptors that it must not keep.

    Raises OSError where no memory, process or descriptor is available; then nothing of it remains.
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
    """Without a pidfd the child cannot be watched, so it must not run."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reading)
        raise


@dataclass(slots=True)
class Standby:
    """A child that was forked before there is a task, and waits for one."""

    worker: Worker
    _orders: int

    def begin(self, task: Any) -> bool:
        """Send it the task. False where that would block, or where it has exited: then it must not be used again."""
        body = pickle.dumps(task, pickle.HIGHEST_PROTOCOL)
        order = _LENGTH.pack(len(body)) + body
        try:
            return os.write(self._orders, order) == len(order)
        except (BlockingIOError, BrokenPipeError):
            return False
        finally:
            os.close(self._orders)

    def dismiss(self) -> None:
        """It exits, as it does when the parent has exited."""
        os.close(self._orders)


def prepare(body: Callable[[Any, Send], None], warm_up: Callable[[], None], *, close: tuple[int, ...] = ()) -> Standby:
    """Fork a child that calls `warm_up` now, and `body` when it gets a task.

    The warm-up makes the child's own copies of the pages that the task writes to. These and the fork take most of the
    time of a new worker.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def wait(send: Send) -> None:
        os.close(writing)
        warm_up()
        with os.fdopen(reading, "rb") as orders:
            head = orders.read(_LENGTH.size)
            if head:  # else the parent has exited
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
        pass  # the parent has exited: stop at the step that was reached
    except BaseException:
        traceback.print_exc(file=sys.stderr)
    finally:
        os._exit(status)


def _leave_parent(close: tuple[int, ...]) -> None:
    """Drop the parent's signal handlers and locks: a lock held by a stuck child would lock out the next agent."""
    gc.disable()  # the child is short-lived, and a collection would write to every shared page
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # systemctl kill sends it to every process of the unit
    for fd in close:
        os.close(fd)


class _Sender:
    """Sends reports in batches, because each message wakes the parent."""

    def __init__(self, writing: int) -> None:
        self._writing = writing
        self._unsent: list[Any] = []
        self._lock = threading.Lock()
        self._writing_lock = threading.Lock()
        self._pending = threading.Event()
        self._parent = select.poll()
        self._parent.register(writing, 0)  # POLLERR, which poll always reports: the reader has closed the pipe
        threading.Thread(target=self._flush_often, daemon=True).start()

    def __call__(self, report: Any) -> None:
        """Raises BrokenPipeError when the parent has exited."""
        with self._lock:
            if self._parent.poll(0):
                raise BrokenPipeError
            self._unsent.append(report)
        self._pending.set()

    def flush(self) -> None:
        with self._writing_lock:
            with self._lock:
                reports, self._unsent = self._unsent, []
            if reports:
                body = pickle.dumps(reports, pickle.HIGHEST_PROTOCOL)
                self._write(memoryview(_LENGTH.pack(len(body)) + body))

    def _write(self, data: memoryview) -> None:
        while data:
            data = data[os.write(self._writing, data) :]

    def _flush_often(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # the next __call__ raises it
            while self._pending.wait():
                time.sleep(_BATCH_S)
                self._pending.clear()
                self.flush()
