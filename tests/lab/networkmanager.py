# SPDX-License-Identifier: Apache-2.0
"""NetworkManager, configured to leave the management NIC alone."""

from tests.lab.machine import MANAGEMENT_MAC
from tests.lab.packages import packages_tree
from tests.lab.payload import Entry

_LEAVE_ALONE = f"[keyfile]\nunmanaged-devices=mac:{MANAGEMENT_MAC}\n"


def networkmanager_tree(suite: str = "trixie") -> dict[str, Entry]:
    tree = packages_tree("network-manager", suite=suite)
    return tree | {"/etc/NetworkManager/conf.d/lab.conf": Entry(_LEAVE_ALONE.encode())}
