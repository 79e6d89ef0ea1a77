# SPDX-License-Identifier: Apache-2.0
"""Descriptors, threads, processes and tasks that a test has left behind."""

import asyncio
import os
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from vfagent.process import memory

T = TypeVar("T")


def descriptors() -> dict[int, str]:
    open_files = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            open_files[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the descriptor that listed the folder
    return open_files


def children() -> set[int]:
    """Child processes, zombies included."""
    return {int(pid) for task in Path("/proc/self/task").iterdir() for pid in _children_of(task).split()}


def _children_of(task: Path) -> str:
    try:
        return (task / "children").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""  # a thread that has ended since


def left_behind(before: dict[int, str], threads: set[threading.Thread], known: set[int]) -> list[str]:
    """What the garbage collector still frees, such as pyudev's monitors, does not count."""
    if not _left(before, threads, known):
        return []
    memory.collect()
    return _left(before, threads, known)


def _left(before: dict[int, str], threads: set[threading.Thread], known: set[int]) -> list[str]:
    opened = [f"descriptor {fd}: {target}" for fd, target in descriptors().items() if before.get(fd) != target]
    processes = [f"process {pid}: {_command(pid)}" for pid in children() - known]
    return opened + processes + [f"thread {thread.name}" for thread in threading.enumerate() if thread not in threads]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text()[:80]
    except OSError:
        return "has ended"


async def _settled(body: Coroutine[Any, Any, T]) -> T:
    known = children()
    result = await body
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not others, f"tasks left behind: {others}"
    if children() - known:
        await _reaped(known)
    return result


async def _reaped(known: set[int]) -> None:
    """The loop reaps the workers that it has killed; on a slow machine they die a moment later."""
    end = asyncio.get_running_loop().time() + 5
    await asyncio.sleep(0.05)
    while any(") Z " in _command(pid) for pid in children() - known) and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.01)


def run_to_end(body: Coroutine[Any, Any, T]) -> T:
    """asyncio.run, which itself cancels remaining tasks silently; here they fail the test."""
    return asyncio.run(_settled(body))
