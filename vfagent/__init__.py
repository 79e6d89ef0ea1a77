# SPDX-License-Identifier: Apache-2.0
"""vfagent configures SR-IOV NICs, their VFs and the guests on them from a policy."""

__version__ = "0.1.0"
