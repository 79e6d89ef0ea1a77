# SPDX-License-Identifier: Apache-2.0
"""Calls in workers: results, errors, deadlines, and calls that hang in the kernel."""

import asyncio
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.host.leaks import children, run_to_end
from vfagent.errors import WrongCountError
from vfagent.process import worker
from vfagent.process.throttle import Turns
from vfagent.process.worker import NoAnswerError, NoWorkerError, Send, Worker
from vfagent.process.workers import StuckError, Workers


def sleep(seconds: float) -> int:
    time.sleep(seconds)
    return 0


def test_a_call_has_the_result_of_the_function_in_another_process() -> None:
    async def scenario() -> tuple[int, str]:
        return await Workers().call(lambda: (os.getpid(), "x" * 1_000_000), deadline_s=10.0)

    pid, text = run_to_end(scenario())
    assert pid != os.getpid()
    assert len(text) == 1_000_000


def test_an_error_comes_out_of_the_worker_with_all_that_it_holds() -> None:
    def fail() -> None:
        raise WrongCountError("0000:01:00.0: made 3 of 4 VFs", made=3, hint="see dmesg")

    with pytest.raises(WrongCountError, match="made 3 of 4") as caught:
        run_to_end(Workers().call(fail, deadline_s=10.0))
    assert (caught.value.made, caught.value.hint) == (3, "see dmesg")


def test_a_worker_that_dies_is_no_answer() -> None:
    with pytest.raises(NoAnswerError, match="worker exited with status 3"):
        run_to_end(Workers().call(lambda: os._exit(3), deadline_s=10.0))


def test_a_call_that_is_silent_is_killed_at_its_deadline() -> None:
    began = time.monotonic()
    with pytest.raises(NoAnswerError, match=r"no answer within 0\.3 s"):
        run_to_end(Workers().call(lambda: sleep(60), deadline_s=0.3))
    assert time.monotonic() - began < 10


def test_a_cancelled_call_leaves_no_worker() -> None:
    async def scenario() -> None:
        before = len(children())
        call = asyncio.create_task(Workers().call(lambda: sleep(60), deadline_s=60.0))
        await asyncio.sleep(0.1)
        call.cancel()
        await asyncio.wait({call})
        assert len(children()) == before

    run_to_end(scenario())


@pytest.mark.usefixtures("unkillable")
def test_calls_of_a_kind_that_hang_in_the_kernel_hold_one_worker() -> None:
    async def scenario() -> None:
        workers, before = Workers(dying_s=0.1), len(children())
        with pytest.raises(StuckError) as stuck:
            await workers.call(lambda: sleep(2.0), deadline_s=0.2, kind="owners")
        assert workers.hangs("owners")
        with pytest.raises(NoWorkerError, match="still hangs in the kernel"):
            await workers.call(lambda: 1, deadline_s=5.0, kind="owners")
        assert len(children()) == before + 1
        assert await workers.call(lambda: 1, deadline_s=5.0, kind="another") == 1
        await stuck.value.ended
        assert await workers.call(lambda: 2, deadline_s=5.0, kind="owners") == 2

    run_to_end(scenario())


def test_each_report_of_a_stream_puts_off_its_deadline() -> None:
    def body(send: Send) -> None:
        for number in range(6):
            time.sleep(0.2)
            send(number)
        time.sleep(60)

    workers, reports = Workers(), list[int]()

    async def scenario() -> None:
        async for report in workers.stream(workers.start(body), lambda: 0.9):
            reports.append(report)

    with pytest.raises(NoAnswerError, match=r"no answer within 0\.9 s"):
        run_to_end(scenario())
    assert reports == list(range(6))


def test_a_worker_that_sends_no_more_is_not_read_until_it_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one whose process the kernel takes some time to end: its pipe stays readable."""
    reads, read = list[Worker](), Worker.read

    def counted(child: Worker) -> Iterator[Any]:
        reads.append(child)
        return read(child)

    monkeypatch.setattr(Worker, "read", counted)

    def leave() -> None:
        os.closerange(3, 1024)
        time.sleep(0.5)
        os._exit(0)

    with pytest.raises(NoAnswerError, match="ended without an answer"):
        run_to_end(Workers().call(leave, deadline_s=30.0))
    assert len(reads) == 2  # at the pipe's end, and at its own


def test_an_ended_worker_does_not_wait_for_the_rest_of_the_loop() -> None:
    """Its card's next PF waits for it; another reader's turn comes later."""

    def body(send: Send) -> None:
        send(1)
        time.sleep(0.3)  # until the loop waits for its turn to read
        os._exit(0)

    async def scenario() -> None:
        workers = Workers()
        workers.turns = Turns(lambda: True, longest_rest_s=3600.0)
        with workers.turns.work():
            time.sleep(1.0)  # so it rests for 9 s
        another = asyncio.create_task(workers.turns.turn())
        reports = workers.stream(workers.start(body), lambda: 60.0)
        assert [report async for report in reports] == [1]
        assert not another.done()
        another.cancel()
        await asyncio.wait({another})

    run_to_end(scenario())


@pytest.fixture
def private() -> Iterator[int]:
    reading, writing = os.pipe()
    yield reading
    os.close(reading)
    os.close(writing)


def test_no_worker_has_a_private_descriptor(private: int) -> None:
    def opened() -> bool:
        try:
            return os.fstat(private).st_size >= 0
        except OSError:
            return False

    async def scenario() -> None:
        assert await Workers().call(opened, deadline_s=5.0)
        assert not await Workers(lambda: (private,)).call(opened, deadline_s=5.0)

    run_to_end(scenario())


def test_without_an_event_loop_the_first_report_has_a_deadline_too() -> None:
    child = worker.start(lambda send: time.sleep(60))
    with pytest.raises(NoAnswerError, match=r"no answer within 0\.2 s"):
        child.first_report(0.2)
    child.kill()
    assert child.ends_within(5.0)
    child.close()
