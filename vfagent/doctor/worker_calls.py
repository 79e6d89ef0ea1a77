# SPDX-License-Identifier: Apache-2.0
"""Calls that may hang in the kernel, in systemd or in QEMU: each in its own worker, with a deadline."""

import select
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from vfagent.errors import VfagentError
from vfagent.frozen import frozen
from vfagent.process import worker

K = TypeVar("K")
T = TypeVar("T")

_MOST_WORKERS = 8
_REAP_S = 1.0


@frozen(slots=True)
class NoResult:
    """Why a call has no result."""

    reason: str
    timed_out: bool = False


@dataclass(slots=True)
class _Call(Generic[K]):
    """A call in its worker. `deadline` is on the monotonic clock."""

    key: K
    child: worker.Worker
    deadline: float
    reports: list[Any] = field(default_factory=list)


def call(function: Callable[[], T], timeout_s: float) -> T | NoResult:
    return call_all({None: function}, timeout_s)[None]


def call_all(functions: Mapping[K, Callable[[], T]], timeout_s: float) -> dict[K, T | NoResult]:
    """A few at once. A worker that survives SIGKILL is left behind: its call has no result."""
    results: dict[K, T | NoResult] = {}
    pending, running = list(functions.items()), list[_Call[K]]()
    while pending or running:
        while pending and len(running) < _MOST_WORKERS:
            key, function = pending.pop(0)
            running.append(_Call(key, worker.start(partial(_send_result, function)), time.monotonic() + timeout_s))
        _wait(running)
        for worker_call in [worker_call for worker_call in running if _is_over(worker_call)]:
            running.remove(worker_call)
            results[worker_call.key] = _result(worker_call, timeout_s)
    return {key: results[key] for key in functions}


def _send_result(function: Callable[[], Any], send: worker.Send) -> None:
    try:
        result = function()
    except VfagentError as error:
        result = NoResult(str(error))
    except OSError as error:
        result = NoResult(error.strerror or str(error))
    send(result)


def _is_over(worker_call: _Call[Any]) -> bool:
    return bool(worker_call.reports) or _ended(worker_call.child) or time.monotonic() > worker_call.deadline


def _wait(running: list[_Call[K]]) -> None:
    fds = [fd for worker_call in running for fd in (worker_call.child.reports, worker_call.child.pidfd)]
    select.select(fds, [], [], max(0.0, min(worker_call.deadline for worker_call in running) - time.monotonic()))
    for worker_call in running:
        worker_call.reports.extend(worker_call.child.read())


def _result(worker_call: _Call[K], timeout_s: float) -> Any:
    timed_out = not worker_call.reports and not _ended(worker_call.child)
    if timed_out:
        worker_call.child.kill()
    if _ended(worker_call.child, _REAP_S):
        worker_call.reports.extend(worker_call.child.read())
        worker_call.child.close()
    if worker_call.reports:
        return worker_call.reports[0]
    return NoResult(f"no answer within {timeout_s:.0f} s" if timed_out else "the worker died", timed_out)


def _ended(child: worker.Worker, timeout_s: float = 0.0) -> bool:
    return bool(select.select([child.pidfd], [], [], timeout_s)[0])
