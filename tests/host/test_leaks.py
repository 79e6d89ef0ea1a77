# SPDX-License-Identifier: Apache-2.0
"""The watch over leaks sees them."""

import asyncio
import os
import subprocess
import threading

import pytest

from tests.host.leaks import children, descriptors, left_behind, run_to_end


def test_a_descriptor_left_open_is_seen() -> None:
    before, known = descriptors(), children()
    fd = os.open("/dev/null", os.O_RDONLY)
    found = left_behind(before, set(threading.enumerate()), known)
    os.close(fd)
    assert found == [f"descriptor {fd}: /dev/null"]


def test_a_zombie_is_seen() -> None:
    before, known = descriptors(), children()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    found = left_behind(before, set(threading.enumerate()), known)
    os.waitpid(pid, 0)
    assert [line.split(":")[0] for line in found] == [f"process {pid}"]


def test_a_running_child_is_seen() -> None:
    before, known = descriptors(), children()
    with subprocess.Popen(["sleep", "60"]) as child:
        found = left_behind(before, set(threading.enumerate()), known)
        child.kill()
    assert [line.split(":")[0] for line in found] == [f"process {child.pid}"]


def test_a_thread_is_seen() -> None:
    before, known, threads = descriptors(), children(), set(threading.enumerate())
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="straggler")
    thread.start()
    found = left_behind(before, threads, known)
    done.set()
    thread.join()
    assert found == ["thread straggler"]


def test_a_task_is_seen() -> None:
    async def leave_one() -> None:
        leave_one.task = asyncio.ensure_future(asyncio.sleep(60))  # type: ignore[attr-defined]

    with pytest.raises(AssertionError, match="tasks left behind"):
        run_to_end(leave_one())
