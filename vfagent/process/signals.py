# SPDX-License-Identifier: Apache-2.0
"""Signals for an event loop, in any number.

With asyncio's own handlers CPython reports a full wakeup pipe from within the C signal handler, by a call that takes a
lock ("isn't signal-safe", Modules/signalmodule.c). Seen after a few hundred SIGHUPs while the loop was busy: it hung,
and a SIGTERM after them was lost.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

_CHUNK = 1 << 12


@contextmanager
def signals(actions: Mapping[signal.Signals, Callable[[], None]]) -> Iterator[None]:
    """Inside, the loop calls each action soon after its signal; for a burst, once or a few times."""
    loop, pending = asyncio.get_running_loop(), set[int]()
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def act() -> None:
        # Python's handlers have run by now: they run at each call of a function, and the byte was written before.
        os.read(reading, _CHUNK)
        for number in sorted(pending):
            pending.discard(number)
            actions[signal.Signals(number)]()

    # Where the pipe is full, the loop wakes up anyway.
    woken_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    before = {number: signal.signal(number, lambda this, _: pending.add(this)) for number in actions}
    for number in actions:
        signal.siginterrupt(number, False)  # noqa: FBT003  # C libraries do not expect EINTR
    loop.add_reader(reading, act)
    try:
        yield
    finally:
        loop.remove_reader(reading)
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(woken_before)
        os.close(reading)
        os.close(writing)
