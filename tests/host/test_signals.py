# SPDX-License-Identifier: Apache-2.0
"""Signals reach the loop, in any number."""

import asyncio
import os
import signal
from collections import Counter

from tests.host.leaks import run_to_end
from vfagent.process.signals import signals

MORE_THAN_A_PIPE_HOLDS = (1 << 16) + 1000


def sent(*numbers: signal.Signals) -> Counter[str]:
    """How often each action was called for signals that arrived while the loop was busy."""
    done = Counter[str]()

    async def body() -> None:
        actions = {
            signal.SIGHUP: lambda: done.update(["reload"]),
            signal.SIGTERM: lambda: done.update(["stop"]),
        }
        with signals(actions):
            for number in numbers:
                os.kill(os.getpid(), number)
            async with asyncio.timeout(5):
                while len(done) < len(set(numbers)):
                    await asyncio.sleep(0.01)

    run_to_end(body())
    return done


def test_a_burst_of_signals_is_one_action() -> None:
    assert sent(*[signal.SIGHUP] * 100) == {"reload": 1}


def test_a_signal_after_a_flood_of_another_is_not_lost() -> None:
    """With asyncio's handlers it is lost, and sometimes the process hangs in the C handler."""
    done = sent(*[signal.SIGHUP] * MORE_THAN_A_PIPE_HOLDS, signal.SIGTERM)
    assert done["stop"] == 1
    assert done["reload"] >= 1


def test_the_previous_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGHUP), signal.getsignal(signal.SIGTERM)
    sent(signal.SIGHUP, signal.SIGTERM)
    assert (signal.getsignal(signal.SIGHUP), signal.getsignal(signal.SIGTERM)) == before
    assert signal.set_wakeup_fd(-1) == -1
