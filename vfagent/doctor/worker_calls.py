# SPDX-License-Identifier: Apache-2.0
"""Questions that the kernel, systemd or QEMU may never answer: each in a worker of its own, with a deadline."""

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

_AT_ONCE = 8
_REAP_S = 1.0


@frozen(slots=True)
class NoAnswer:
    """What there is instead of an answer."""

    why: str
    late: bool = False  # it was not refused: there was none in time


@dataclass(slots=True)
class _Asked(Generic[K]):
    """A question on its way. `end`: when it is given up, by the monotonic clock."""

    key: K
    child: worker.Worker
    end: float
    reports: list[Any] = field(default_factory=list)


def ask(question: Callable[[], T], within_s: float) -> T | NoAnswer:
    return call_all({None: question}, within_s)[None]


def call_all(questions: Mapping[K, Callable[[], T]], within_s: float) -> dict[K, T | NoAnswer]:
    """A few at once. A worker that not even SIGKILL ends is left behind: its question has no answer."""
    answers: dict[K, T | NoAnswer] = {}
    todo, running = list(questions.items()), list[_Asked[K]]()
    while todo or running:
        while todo and len(running) < _AT_ONCE:
            key, question = todo.pop(0)
            running.append(_Asked(key, worker.start(partial(_report, question)), _now() + within_s))
        _wait(running)
        for one in [one for one in running if one.reports or _ended(one.child) or _now() > one.end]:
            running.remove(one)
            answers[one.key] = _answer(one, within_s)
    return {key: answers[key] for key in questions}


def _report(question: Callable[[], Any], send: worker.Send) -> None:
    send(_guarded(question))


def _guarded(question: Callable[[], T]) -> T | NoAnswer:
    try:
        return question()
    except VfagentError as error:
        return NoAnswer(str(error))
    except OSError as error:
        return NoAnswer(error.strerror or str(error))


def _wait(running: list[_Asked[K]]) -> None:
    fds = [fd for one in running for fd in (one.child.reports, one.child.pidfd)]
    select.select(fds, [], [], max(0.0, min(one.end for one in running) - _now()))
    for one in running:
        one.reports.extend(one.child.read())


def _answer(one: _Asked[K], within_s: float) -> Any:
    late = not one.reports and not _ended(one.child)
    if late:
        one.child.kill()
    if _ended(one.child, _REAP_S):
        one.reports.extend(one.child.read())
        one.child.close()
    if one.reports:
        return one.reports[0]
    return NoAnswer(f"no answer within {within_s:.0f} s" if late else "its worker died", late)


def _ended(child: worker.Worker, within_s: float = 0.0) -> bool:
    return bool(select.select([child.pidfd], [], [], within_s)[0])


def _now() -> float:
    return time.monotonic()
