# SPDX-License-Identifier: Apache-2.0
"""Calls in workers: on a host without free processes, and when the agent stops."""

import asyncio
import errno
import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.host.leaks import children, run_to_end
from tests.host.waiting import until
from vfagent.guests.worker_calls import Outcome, WorkerCalls
from vfagent.process import worker
from vfagent.process.workers import Workers


def no_process_left() -> int:
    raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")


def slow(seconds: float) -> Callable[[], Outcome]:
    def call() -> Outcome:
        time.sleep(seconds)
        return Outcome()

    return call


def test_a_failed_fork_is_reported_and_the_next_call_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> list[Any]:
        worker_calls, outcomes = WorkerCalls(Workers()), list[Any]()
        with monkeypatch.context() as short:
            short.setattr(os, "fork", no_process_left)
            worker_calls.run(lambda: Outcome(rom="r"), outcomes.append, 5.0)
            assert not outcomes, "called back before run() has returned"
            await until(lambda: outcomes)
        worker_calls.run(lambda: Outcome(rom="r"), outcomes.append, 5.0)
        await until(lambda: len(outcomes) == 2)
        return outcomes

    short, done = run_to_end(scenario())
    assert (short.error, short.begun) == ("cannot start a worker: Resource temporarily unavailable", False)
    assert done == Outcome(rom="r")


def test_running_calls_end_with_the_agent() -> None:
    async def scenario() -> None:
        worker_calls = WorkerCalls(Workers())
        for _ in range(3):
            worker_calls.run(slow(60.0), print, 60.0)
        await asyncio.sleep(0.1)
        await worker_calls.stop()

    run_to_end(scenario())


def test_a_call_that_hangs_in_the_kernel_does_not_delay_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> float:
        worker_calls = WorkerCalls(Workers())
        with monkeypatch.context() as hung:
            hung.setattr(worker.Worker, "kill", lambda child: None)  # as for a process in D state
            for _ in range(3):
                worker_calls.run(slow(1.5), print, 60.0)
            await asyncio.sleep(0.1)
            began = time.monotonic()
            await worker_calls.stop()
            took = time.monotonic() - began
            await until(lambda: not children())
        return took

    assert run_to_end(scenario()) < 1.2


def test_no_call_begins_after_the_end() -> None:
    """What ends meanwhile, a timer or another call, may ask for one."""

    async def scenario() -> list[Outcome]:
        worker_calls, outcomes = WorkerCalls(Workers()), list[Outcome]()
        await worker_calls.stop()
        worker_calls.run(lambda: Outcome(rom="r"), outcomes.append, 5.0)
        return outcomes

    assert run_to_end(scenario()) == []
