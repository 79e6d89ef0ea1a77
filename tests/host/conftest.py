# SPDX-License-Identifier: Apache-2.0
"""Every test here is watched: for what it leaves behind, and for the time it takes."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from tests.host.leaks import children, descriptors, left_behind
from tests.host.namespace import private_kernel

LIMIT_S = int(os.environ.get("VFAGENT_TEST_LIMIT_S", "30"))  # more on emulated processors


def _out_of_time(number: int, frame: object) -> None:
    raise TimeoutError(f"not done within {LIMIT_S} s")


@pytest.fixture(autouse=True)
def time_limit() -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, _out_of_time)
    signal.alarm(LIMIT_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def leaves_nothing_behind(time_limit: None) -> Iterator[None]:
    before, threads, known = descriptors(), set(threading.enumerate()), children()
    yield
    found = left_behind(before, threads, known)
    for pid in children() - known:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if found:
        pytest.fail("left behind:\n  " + "\n  ".join(found), pytrace=False)


@pytest.fixture
def kernel(leaves_nothing_behind: None) -> Iterator[None]:
    """Namespaces of our own: links, routes, sysfs and uevents are the test's alone."""
    with private_kernel():
        yield
