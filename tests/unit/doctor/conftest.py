# SPDX-License-Identifier: Apache-2.0
"""The watch over leaks and time is that of the host tier: `doctor` has workers."""

from tests.host.conftest import leaves_nothing_behind, time_limit

__all__ = ["leaves_nothing_behind", "time_limit"]
