# SPDX-License-Identifier: Apache-2.0
"""The policy is read in a worker with a deadline: a megabyte of rules takes seconds, and a link may lead to an NFS
server that does not answer.

Without asyncio, which the first reconcile does not wait for.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vfagent.errors import PolicyError, PolicyUnreadError
from vfagent.policy.types import Policy
from vfagent.process import worker
from vfagent.process.worker import NoAnswerError, NoWorkerError
from vfagent.store.policy_files import load
from vfagent.store.unconfirmed import FirstPolicy, first_policy

if TYPE_CHECKING:
    from vfagent.process.workers import Workers

LOAD_S = 10.0
_KIND = "policy"

Answer = Policy | PolicyError


def _read(root: Path) -> Answer:
    try:
        return load(root)
    except PolicyError as error:
        return error


def _unread(error: NoAnswerError) -> PolicyUnreadError:
    if error.timed_out:
        return PolicyUnreadError((f"cannot be read within {LOAD_S:g} s",))
    return PolicyUnreadError(("cannot be read: the worker that reads it has ended",))


async def load_in_worker(root: Path, workers: "Workers") -> Answer:
    try:
        return await workers.call(partial(_read, root), deadline_s=LOAD_S, kind=_KIND)
    except NoAnswerError as error:
        return _unread(error)
    except NoWorkerError as error:
        return PolicyUnreadError((f"cannot be read: {error}",))


def read_in_worker(root: Path, *, close: tuple[int, ...] = ()) -> tuple[FirstPolicy, worker.Worker | None]:
    """What it finds; and the worker, killed, where it hangs in the kernel and is to be reaped later."""
    try:
        child = worker.start(lambda send: send(first_policy(root, _read(root))), close=close)
    except OSError as error:
        reason = f"cannot be read: cannot start a worker: {error.strerror}"
        return first_policy(root, PolicyUnreadError((reason,))), None
    first: FirstPolicy
    try:
        first = child.first_report(LOAD_S)
    except NoAnswerError as error:
        first = first_policy(root, _unread(error))
    child.kill()
    if not child.ends_within(1.0):
        return first, child
    child.close()
    return first, None
