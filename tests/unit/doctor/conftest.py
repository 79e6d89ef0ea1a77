# SPDX-License-Identifier: Apache-2.0
"""The checks for leaks and time are those of tests/host: `doctor` has workers."""

from tests.host.conftest import leaves_nothing_behind, time_limit

__all__ = ["leaves_nothing_behind", "time_limit"]
