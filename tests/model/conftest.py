# SPDX-License-Identifier: Apache-2.0
"""Lanes run in turn, so that a history can be replayed; and the count of histories at the end."""

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
    """What a process of pytest-xdist has counted goes to the one that tells it."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["model"] = dict(ledger.counted)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    ledger.counted.update(getattr(node, "workeroutput", {}).get("model", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if ledger.counted:
        terminalreporter.write_line(f"model: {ledger.line()}")
