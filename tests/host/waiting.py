# SPDX-License-Identifier: Apache-2.0
"""The one way in which tests of this tier wait: until something holds, for much longer than it should take."""

import asyncio
import os
import time
from collections.abc import Callable

TEST_LIMIT_S = int(os.environ.get("VFAGENT_TEST_LIMIT_S", "30"))  # of a whole test; more on emulated processors
LIMIT_S = TEST_LIMIT_S * 2 / 3  # less, so that a wait that fails can still say what there was instead
_PAUSE_S = 0.02


async def until(
    condition: Callable[[], object], state: Callable[[], object] = lambda: None, *, within_s: float = LIMIT_S
) -> None:
    """Fails with what `state` returns. `within_s`: where it would be wrong to take longer."""
    end = time.monotonic() + within_s
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
