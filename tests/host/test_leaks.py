# SPDX-License-Identifier: Apache-2.0
"""The leak check reports leaks."""

import asyncio
import os
import subprocess
import threading

import pytest

from tests.host.leaks import children, descriptors, left_behind, run_to_end


def test_an_open_descriptor_is_reported() -> None:
    before, known = descriptors(), children()
    fd = os.open("/dev/null", os.O_RDONLY)
    leaks = left_behind(before, set(threading.enumerate()), known)
    os.close(fd)
    assert leaks == [f"descriptor {fd}: /dev/null"]


def test_a_zombie_is_reported() -> None:
    before, known = descriptors(), children()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    leaks = left_behind(before, set(threading.enumerate()), known)
    os.waitpid(pid, 0)
    assert [line.split(":")[0] for line in leaks] == [f"process {pid}"]


def test_a_running_child_is_reported() -> None:
    before, known = descriptors(), children()
    with subprocess.Popen(["sleep", "60"]) as child:
        leaks = left_behind(before, set(threading.enumerate()), known)
        child.kill()
    assert [line.split(":")[0] for line in leaks] == [f"process {child.pid}"]


def test_a_thread_is_reported() -> None:
    before, known, threads = descriptors(), children(), set(threading.enumerate())
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="straggler")
    thread.start()
    leaks = left_behind(before, threads, known)
    done.set()
    thread.join()
    assert leaks == ["thread straggler"]


def test_a_task_is_reported() -> None:
    async def leave_one() -> None:
        leave_one.task = asyncio.ensure_future(asyncio.sleep(60))  # type: ignore[attr-defined]

    with pytest.raises(AssertionError, match="tasks left behind"):
        run_to_end(leave_one())
