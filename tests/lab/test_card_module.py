# SPDX-License-Identifier: Apache-2.0
"""The card module is built for the kernels of both Debian releases."""

import pytest

from tests.lab.image import base, kernel_of
from tests.lab.module import kernel_module


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_the_module_builds_without_a_warning(suite: str) -> None:
    """Its Makefile makes each an error."""
    assert f"vermagic={kernel_of(base(suite))} ".encode() in kernel_module("labcard", "card", suite)
