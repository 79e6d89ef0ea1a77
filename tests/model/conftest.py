# SPDX-License-Identifier: Apache-2.0
"""Parallel groups run one after the other, so that a history can be replayed. The end shows how many were tried."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.model import groups_in_turn, ledger
from vfagent.reconcile import parallel


@pytest.fixture(scope="session", autouse=True)
def _groups_in_turn() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "_GroupRun", groups_in_turn.GroupInTurn)
        yield


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist passes its counters to the process that prints them."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["model"] = dict(ledger.counted)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    ledger.counted.update(getattr(node, "workeroutput", {}).get("model", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if ledger.counted:
        terminalreporter.write_line(f"model: {ledger.line()}")
