# SPDX-License-Identifier: Apache-2.0
"""A test that hangs fails, whatever the code that it tests makes of exceptions. The tests after it run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.host.waiting import TEST_LIMIT_S

ROOT = Path(__file__).parents[2]
HEAD = """
import asyncio, os, time
from pathlib import Path
from tests.host.conftest import time_limit as time_limit
from tests.host.tree import Tree
from tests.host.waiting import until, wait_until

def test_hangs(tmp_path: Path) -> None:
"""
TAIL = """

def test_after_it() -> None:
    time.sleep(0)
"""
# As the agent's code takes every OSError for the kernel's answer.
READS_NUMVFS = """
    tree = Tree(tmp_path)
    tree.add_pf("0000:01:00.0")
    try:
        (tree.device("0000:01:00.0") / "sriov_numvfs").read_text()
    except OSError:
        pass
"""
IN_A_CALLBACK = """
    async def body() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        asyncio.get_running_loop().call_soon(time.sleep, 60)
        await asyncio.sleep(0.1)
    asyncio.run(body())
"""
TWICE = """
    for _ in range(2):
        try:
            time.sleep(60)
        except BaseException:
            pass
"""
WAITS = """
    wait_until(lambda: False, lambda: "the state" + " at the end")
"""
WAITS_IN_A_LOOP = """
    asyncio.run(until(lambda: False, lambda: "the state" + " at the end"))
"""


def inner_test(body: str, folder: Path) -> str:
    """What pytest prints of a test that fails, in another process, with a limit of a second."""
    (folder / "test_inner.py").write_text(HEAD + body + TAIL)
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", "--rootdir", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "VFAGENT_TEST_LIMIT_S": "1"}
    argv = [*argv, "test_inner.py"]
    done = subprocess.run(
        argv, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=TEST_LIMIT_S - 5
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("body", [READS_NUMVFS, IN_A_CALLBACK, TWICE])
def test_a_test_that_hangs_fails_and_the_next_one_runs(body: str, tmp_path: Path) -> None:
    printed = inner_test(body, tmp_path)
    assert "not done within 1 s" in printed
    assert "test_inner.py::test_after_it PASSED" in printed


@pytest.mark.parametrize("body", [WAITS, WAITS_IN_A_LOOP])
def test_a_wait_that_fails_says_what_there_was_instead(body: str, tmp_path: Path) -> None:
    assert "AssertionError: the state at the end" in inner_test(body, tmp_path)
