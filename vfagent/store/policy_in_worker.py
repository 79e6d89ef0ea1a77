# SPDX-License-Identifier: Apache-2.0
"""The policy is read in a worker with a deadline: a megabyte of rules takes seconds, and a link may lead to an NFS
server that does not answer.

Without asyncio, which the first reconcile does not wait for.
"""

import select
import time
from pathlib import Path

from vfagent.errors import PolicyError, PolicyUnreadError
from vfagent.policy.types import Policy
from vfagent.process import worker
from vfagent.store.policy_files import load

LOAD_S = 10.0

Answer = Policy | PolicyError


def read(root: Path) -> Answer:
    try:
        return load(root)
    except PolicyError as error:
        return error


def unanswered() -> PolicyUnreadError:
    return PolicyUnreadError((f"cannot be read within {LOAD_S:g} s",))


def no_worker(error: OSError) -> PolicyUnreadError:
    return PolicyUnreadError((f"cannot start a worker that reads it: {error.strerror}",))


def read_in_worker(root: Path, *, close: tuple[int, ...] = ()) -> tuple[Answer, worker.Worker | None]:
    """The answer; and the worker, killed, where it hangs in the kernel and is to be reaped later."""
    try:
        child = worker.start(lambda send: send(read(root)), close=close)
    except OSError as error:
        return no_worker(error), None
    answer = _answer(child)
    child.kill()
    if not child.ends_within(1.0):
        return answer, child
    child.close()
    return answer, None


def _answer(child: worker.Worker) -> Answer:
    reports = select.poll()
    reports.register(child.reports, select.POLLIN)
    end = time.monotonic() + LOAD_S
    while (left := end - time.monotonic()) > 0 and reports.poll(left * 1000):
        ended = child.ends_within(0)
        for answer in child.read():
            return answer  # type: ignore[no-any-return]
        if ended:
            return PolicyUnreadError(("cannot be read: the worker that reads it has ended",))
    return unanswered()
