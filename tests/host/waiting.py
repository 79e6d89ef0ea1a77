# SPDX-License-Identifier: Apache-2.0
"""The one way in which tests of this tier wait: until something holds, for much longer than it should take."""

import asyncio
import time
from collections.abc import Callable

LIMIT_S = 30.0  # for a machine that is busy with other tests
_PAUSE_S = 0.02


async def until(condition: Callable[[], object], state: Callable[[], object] = lambda: None) -> None:
    """Fails with what `state` returns."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, state()
        await asyncio.sleep(_PAUSE_S)


def wait_until(
    condition: Callable[[], object], state: Callable[[], object] = lambda: None, *, within_s: float = LIMIT_S
) -> None:
    """The same where no event loop runs. A benchmark of a large host waits for longer."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, state()
        time.sleep(_PAUSE_S)
