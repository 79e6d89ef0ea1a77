# SPDX-License-Identifier: Apache-2.0
"""Each test here has a time limit, and fails if it leaves descriptors, threads or processes behind."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.outcomes import Failed

from tests.host.fake_kernel import FakeKernel
from tests.host.leaks import children, descriptors, left_behind
from tests.host.namespace import private_kernel
from tests.host.scheduler_rig import POLICY
from tests.host.waiting import TEST_LIMIT_S
from vfagent.process.worker import Worker
from vfagent.reconcile.pf_state import PfState

# systemd sets them for a service and its children, sshd for a session: the tests may run in either.
_OF_THE_CALLER = ("DBUS_SYSTEM_BUS_ADDRESS", "JOURNAL_STREAM", "NOTIFY_SOCKET", "SSH_CONNECTION", "WATCHDOG_PID")


class OutOfTimeError(Failed):
    """A BaseException that pytest reports as this test's failure. The agent treats an OSError, such as TimeoutError,
    as the kernel's answer."""


@pytest.fixture(autouse=True)
def time_limit() -> Iterator[None]:
    """What catches BaseException, such as asyncio around its callbacks, has the test fail at its end."""
    expired = False

    def out_of_time(number: int, frame: object) -> None:
        nonlocal expired
        expired = True
        signal.alarm(TEST_LIMIT_S)
        raise OutOfTimeError(f"not done within {TEST_LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(TEST_LIMIT_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    if expired:
        raise OutOfTimeError(f"not done within {TEST_LIMIT_S} s")


@pytest.fixture(autouse=True)
def no_service_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*_OF_THE_CALLER, "WATCHDOG_USEC"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def leaves_nothing_behind(time_limit: None) -> Iterator[None]:
    before, threads, known = descriptors(), set(threading.enumerate()), children()
    yield
    remains = left_behind(before, threads, known)
    for pid in children() - known:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if remains:
        pytest.fail("left behind:\n  " + "\n  ".join(remains), pytrace=False)


@pytest.fixture
def unkillable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers as in D state: SIGKILL is pending."""
    monkeypatch.setattr(Worker, "kill", lambda self: None)


@pytest.fixture
def no_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests with a faster clock, which workers do not have."""
    monkeypatch.setattr(PfState, "silence_s", lambda state: 1e6)


@pytest.fixture
def info_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.fixture
def kernel_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    """A host without cards. A new one is reconciled soon: tests/unit/test_requests.py has the delays."""
    monkeypatch.setattr("vfagent.reconcile.requests.ARRIVAL_S", 0.1)
    kernel = FakeKernel(tmp_path)
    kernel.tree.policy(POLICY)
    return kernel


@pytest.fixture
def kernel(leaves_nothing_behind: None) -> Iterator[None]:
    """Own namespaces: links, routes, sysfs and uevents are the test's alone."""
    with private_kernel():
        yield
