# SPDX-License-Identifier: Apache-2.0
"""Worker processes: their reports, their exit, and that they leave nothing behind."""

import errno
import fcntl
import os
import select
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from vfagent.process import worker


def finish(child: worker.Worker, *, within_s: float = 10.0) -> tuple[list[Any], int]:
    """All reports, and the exit status."""
    reports: list[Any] = []
    end = time.monotonic() + within_s
    while not select.select([child.pidfd], [], [], 0.02)[0]:
        assert time.monotonic() < end, "the worker does not exit"
        reports += child.read()
    reports += child.read()
    return reports, child.close()


def test_reports_arrive_in_order() -> None:
    def body(send: worker.Send) -> None:
        for number in range(5000):
            send(number)

    assert finish(worker.start(body)) == (list(range(5000)), 0)


def test_a_report_larger_than_the_pipe_arrives_whole() -> None:
    big = {"text": "x" * 5_000_000, "bytes": bytes(1_000_000)}

    def body(send: worker.Send) -> None:
        send(big)
        send("after")

    assert finish(worker.start(body)) == ([big, "after"], 0)


def test_reports_of_threads_do_not_mix() -> None:
    from concurrent.futures import ThreadPoolExecutor

    def body(send: worker.Send) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda number: send(str(number) * 100_000), range(8)))

    reports, status = finish(worker.start(body))
    assert status == 0
    assert sorted(reports) == [str(number) * 100_000 for number in range(8)]


def test_reading_from_a_silent_worker_does_not_block() -> None:
    child = worker.start(lambda send: time.sleep(60))
    began = time.monotonic()
    assert list(child.read()) == []
    assert time.monotonic() - began < 1
    child.kill()
    finish(child)


def test_a_worker_that_ignores_every_signal_is_killed() -> None:
    def body(send: worker.Send) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        send("deaf")
        while True:
            time.sleep(60)

    child = worker.start(body)
    assert select.select([child.reports], [], [], 5)[0]
    os.kill(child.pid, signal.SIGTERM)
    assert not select.select([child.pidfd], [], [], 0.1)[0]
    child.kill()
    assert finish(child) == (["deaf"], -signal.SIGKILL)


def test_a_sighup_to_the_whole_unit_ends_no_worker() -> None:
    """`systemctl kill --signal=HUP` does so."""

    def body(send: worker.Send) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        send("still here")

    assert finish(worker.start(body)) == (["still here"], 0)


def test_reports_from_before_an_exception_arrive(capfd: pytest.CaptureFixture[str]) -> None:
    def body(send: worker.Send) -> None:
        send("step 1 done")
        raise MemoryError("no more of it")

    assert finish(worker.start(body)) == (["step 1 done"], 1)
    assert "no more of it" in capfd.readouterr().err


def test_the_status_of_a_killed_worker_is_its_signal() -> None:
    def body(send: worker.Send) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    assert finish(worker.start(body)) == ([], -signal.SIGKILL)


def test_a_worker_without_a_parent_stops_at_its_next_report(tmp_path: Path) -> None:
    """The agent was killed in the middle of a plan: the later steps must not be carried out."""
    done = tmp_path / "second step"

    def body(send: worker.Send) -> None:
        send("first step")
        os.read(hold, 1)  # until the parent has exited
        send("second step")
        done.write_text("done")

    hold, release = os.pipe()
    watch, alive = os.pipe()
    parent = os.fork()
    if parent == 0:
        worker.start(body, close=(release,))
        os._exit(0)
    os.waitpid(parent, 0)
    os.close(alive)
    os.close(release)
    # The grandchild holds the last writing end: end of file means that it has exited.
    assert select.select([watch], [], [], 5)[0], "the worker runs on without its parent"
    assert os.read(watch, 1) == b""
    for fd in (hold, watch):
        os.close(fd)
    assert not done.exists()


def test_a_worker_does_not_keep_its_parents_lock(tmp_path: Path) -> None:
    """A worker stuck in the kernel outlives the agent; the next agent must still get the lock."""
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)

    def body(send: worker.Send) -> None:
        send("started")
        time.sleep(60)

    child = worker.start(body, close=(lock,))
    assert select.select([child.reports], [], [], 5)[0]
    os.close(lock)
    next_agent = os.open(tmp_path / "lock", os.O_RDWR)
    fcntl.flock(next_agent, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(next_agent)
    child.kill()
    assert finish(child) == (["started"], -signal.SIGKILL)


def test_a_worker_ends_on_the_signals_that_its_parent_handles() -> None:
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)

    def body(send: worker.Send) -> None:
        send("started")
        time.sleep(60)

    child = worker.start(body)
    assert select.select([child.reports], [], [], 5)[0]
    os.kill(child.pid, signal.SIGTERM)
    assert finish(child) == (["started"], -signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)


def test_a_hundred_workers_leave_nothing_behind() -> None:
    for number in range(100):
        assert finish(worker.start(lambda send, number=number: send(number))) == ([number], 0)  # type: ignore[misc]


def no_process_left() -> int:
    raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")


def no_descriptor_left(pid: int) -> int:
    raise OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize("begin", [lambda body: worker.start(body), lambda body: worker.prepare(body, nothing)])
def test_a_fork_that_fails_leaves_no_descriptor(begin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixture in conftest.py fails if one is left."""
    monkeypatch.setattr(os, "fork", no_process_left)
    for _ in range(3):
        with pytest.raises(BlockingIOError):
            begin(print)


def test_a_worker_without_a_pidfd_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = tmp_path / "done"

    def body(send: worker.Send) -> None:
        time.sleep(0.5)
        done.write_text("done")

    monkeypatch.setattr(os, "pidfd_open", no_descriptor_left)
    with pytest.raises(OSError, match="Too many open files"):
        worker.start(body)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert not done.exists()


# Standby workers.


def double(task: object, send: worker.Send) -> None:
    send(os.getpid())
    send([task, task])


def nothing() -> None:
    """No warm-up."""


def test_a_standby_worker_carries_out_its_task() -> None:
    standby = worker.prepare(double, nothing)
    assert standby.begin({"pf": "0000:01:00.0"})
    reports, status = finish(standby.worker)
    assert (reports, status) == ([standby.worker.pid, [{"pf": "0000:01:00.0"}] * 2], 0)


def test_a_standby_worker_warms_up_before_it_has_a_task(tmp_path: Path) -> None:
    warmed_up = tmp_path / "warmed up"
    standby = worker.prepare(double, warmed_up.touch)
    end = time.monotonic() + 10
    while not warmed_up.exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    assert standby.begin("task")
    assert finish(standby.worker)[1] == 0


def test_a_dismissed_standby_worker_exits() -> None:
    standby = worker.prepare(double, nothing)
    standby.dismiss()
    assert finish(standby.worker) == ([], 0)


def test_a_killed_standby_worker_accepts_no_task() -> None:
    standby = worker.prepare(double, nothing)
    standby.worker.kill()
    assert select.select([standby.worker.pidfd], [], [], 5)[0]
    assert not standby.begin("task")
    assert finish(standby.worker) == ([], -signal.SIGKILL)


def test_giving_a_task_to_a_busy_standby_worker_does_not_block() -> None:
    """It may hang in its warm-up, and the service must not hang with it."""
    standby = worker.prepare(double, lambda: time.sleep(60))
    assert not standby.begin("x" * (1 << 22))
    standby.worker.kill()
    assert finish(standby.worker) == ([], -signal.SIGKILL)


def test_a_standby_worker_exits_with_its_parent() -> None:
    watch, alive = os.pipe()
    parent = os.fork()
    if parent == 0:
        os.close(watch)
        worker.prepare(double, nothing)
        os._exit(0)
    os.waitpid(parent, 0)
    os.close(alive)
    assert select.select([watch], [], [], 5)[0], "the standby worker runs on without its parent"
    os.close(watch)
