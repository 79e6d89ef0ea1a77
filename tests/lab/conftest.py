# SPDX-License-Identifier: Apache-2.0
"""Fixtures that boot VMs: the images first, and evidence when a test fails."""

import re
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.lab.evidence import collect, summary
from tests.lab.image import Image, host
from tests.lab.vm import VM
from tests.lab.warm import WarmVM

HERE = Path(__file__).parent
EVIDENCE = HERE / "evidence"
_setup_failures: set[str] = set()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.lab)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and VM.alive and not _is_known(report, str(call.excinfo)):
        report.sections.append(("evidence", "\n".join(_collect_all(item.nodeid))))
    return report


def _is_known(report: pytest.TestReport, failure: str) -> bool:
    """Whether an earlier test failed in the same fixture: if a file's VM does not boot, all its tests fail."""
    known = report.when == "setup" and failure in _setup_failures
    _setup_failures.add(failure)
    return known


def _collect_all(test: str) -> list[str]:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", test.removeprefix("tests/lab/"))
    folders = [collect(vm, EVIDENCE / name / str(number)) for number, vm in enumerate(VM.alive)]
    return [f"{folder}\n{summary(vm)}" for folder, vm in zip(folders, VM.alive, strict=True)]


@pytest.fixture(scope="session")
def lab_image() -> Image:
    """Built before the first VM's clock starts."""
    return host()


@pytest.fixture
def boot(lab_image: Image) -> Iterator[Callable[..., VM]]:
    """Boots VMs that end with the test: boot(nics, payload) as in VM."""
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(VM(*args, **kwargs))


@pytest.fixture
def warm(lab_image: Image) -> Iterator[Callable[..., WarmVM]]:
    """The same, from the saved state of a booted host: for tests that do not depend on the boot."""
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(WarmVM(*args, **kwargs))


@pytest.fixture(scope="module")
def warm_module(lab_image: Image) -> Iterator[Callable[..., WarmVM]]:
    """The same for a whole file."""
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(WarmVM(*args, **kwargs))


@pytest.fixture(scope="module")
def boot_module(lab_image: Image) -> Iterator[Callable[..., VM]]:
    """The same for a whole file: make a module-scoped fixture of your own with it."""
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(VM(*args, **kwargs))
