# SPDX-License-Identifier: Apache-2.0
"""The doctor's questions to the kernel, to systemd and to QEMU: each in its own worker, with a deadline."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar

from vfagent.errors import VfagentError
from vfagent.frozen import frozen
from vfagent.process.worker import NoAnswerError
from vfagent.process.workers import Workers

K = TypeVar("K")
T = TypeVar("T")

_MOST_WORKERS = 8


@frozen(slots=True)
class NoResult:
    """Why a call has no result."""

    reason: str
    timed_out: bool = False


def call(function: Callable[[], T], timeout_s: float) -> T | NoResult:
    return call_all({None: function}, timeout_s)[None]


def call_all(functions: Mapping[K, Callable[[], T]], timeout_s: float) -> dict[K, T | NoResult]:
    """A few at once. A worker that survives SIGKILL is left behind: its call has no result."""
    return asyncio.run(_call_all(functions, timeout_s))


async def _call_all(functions: Mapping[K, Callable[[], T]], timeout_s: float) -> dict[K, T | NoResult]:
    workers, places = Workers(), asyncio.Semaphore(_MOST_WORKERS)

    async def result(function: Callable[[], T]) -> T | NoResult:
        async with places:
            try:
                return await workers.call(function, deadline_s=timeout_s)
            except NoAnswerError as error:
                return NoResult(str(error), error.timed_out)
            except VfagentError as error:
                return NoResult(str(error))

    return dict(zip(functions, await asyncio.gather(*map(result, functions.values())), strict=True))
