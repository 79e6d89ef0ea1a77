# SPDX-License-Identifier: Apache-2.0
"""What a test may leave behind: nothing."""

import asyncio
import gc
import os
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the descriptor that listed the folder
    return found


def children() -> set[int]:
    """Running ones and zombies alike."""
    return {int(pid) for task in Path("/proc/self/task").iterdir() for pid in _children_of(task).split()}


def _children_of(task: Path) -> str:
    try:
        return (task / "children").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""  # a thread that has ended since


def left_behind(before: dict[int, str], threads: set[threading.Thread], known: set[int]) -> list[str]:
    """What only a cycle of objects keeps, such as pyudev's monitors, is not counted."""
    found = _left(before, threads, known)
    if found:
        gc.collect()
        found = _left(before, threads, known)
    return found


def _left(before: dict[int, str], threads: set[threading.Thread], known: set[int]) -> list[str]:
    opened = [f"descriptor {fd}: {what}" for fd, what in descriptors().items() if before.get(fd) != what]
    processes = [f"process {pid}: {_command(pid)}" for pid in children() - known]
    return opened + processes + [f"thread {one.name}" for one in threading.enumerate() if one not in threads]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text()[:80]
    except OSError:
        return "gone since"


async def _settled(body: Coroutine[Any, Any, T]) -> T:
    result = await body
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not others, f"tasks left behind: {others}"
    return result


def run_to_end(body: Coroutine[Any, Any, T]) -> T:
    """asyncio.run, which would quietly cancel the tasks that were left."""
    return asyncio.run(_settled(body))
