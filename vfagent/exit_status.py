# SPDX-License-Identifier: Apache-2.0
"""Exit statuses of the command line; vfagent(8) lists them."""

from enum import IntEnum


class Exit(IntEnum):
    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_CONVERGED = 3
    POLICY_INVALID = 4
    REFUSED = 5
    NO_SERVICE = 6
