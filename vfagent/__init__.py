# SPDX-License-Identifier: Apache-2.0
"""vfagent: SR-IOV NICs, their VFs and the guests on them, as a policy says."""

__version__ = "0.1.0"
