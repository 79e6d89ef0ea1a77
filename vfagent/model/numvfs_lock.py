# SPDX-License-Identifier: Apache-2.0
"""Whether a kernel creates and removes VFs of one card at a time, by its version. Pure.

Commit 05703271c3cd ("PCI/IOV: Add PCI rescan-remove locking when enabling/disabling SR-IOV", 6.18) made
sriov_add_vfs() and sriov_del_vfs() take pci_rescan_remove_lock, of which the host has one. The removal of a card takes
it too, and then the driver calls sriov_del_vfs(): with VFs, it waits for itself. So the commit was reverted
(2fa119c0e5e5), and a5338e365c45 (7.0) takes the lock in sriov_numvfs_store() instead. By either, a write to
`sriov_numvfs` that waits for a guest makes every other card's write wait with it, in D state.
"""

import re
from enum import Enum, auto

from vfagent.frozen import frozen
from vfagent.model.pci import PciAddress


class NumvfsLock(Enum):
    NONE = auto()  # each card by itself
    DEADLOCKS = auto()  # one card at a time; and the removal of a card with VFs never ends
    ONE_CARD = auto()  # one card at a time


# By series: the release with the first commit, and the one with the second (CVE-2025-40219); None: it ended before.
_SERIES = {
    (5, 4): (301, None),
    (5, 10): (246, 252),
    (5, 15): (196, 202),
    (6, 1): (157, 165),
    (6, 6): (113, 128),
    (6, 12): (54, 75),
    (6, 17): (4, None),
    (6, 18): (0, 16),
    (6, 19): (0, 6),
}
# Distributions take patches under numbers of their own, such as 6.12.0-124.el10. One that has this series also has the
# fix by now; where that is wrong, cards wait for each other without need, which is slower but safe.
_ASSUMED_FROM = (6, 12)
FIXED = tuple((*series, fixed) for series, (_, fixed) in _SERIES.items() if fixed)


def kernel_version(release: str, banner: str) -> tuple[int, ...]:
    """Debian's release names the ABI (6.1.0-25-amd64); the banner has the version: `Debian 6.1.106-3`."""
    match = re.search(r"Debian (\d+\.\d+(?:\.\d+)?)", banner) or re.match(r"(\d+\.\d+(?:\.\d+)?)", release)
    return tuple(int(part) for part in match[1].split(".")) if match else ()


def numvfs_lock(version: tuple[int, ...]) -> NumvfsLock:
    """`version` is kernel_version(); () where it is not known."""
    series, patch = version[:2], version[2] if len(version) > 2 else 0
    known = _SERIES.get((series[0], series[1])) if len(series) == 2 else None
    if known is None or not (patch or known[0] == 0):
        return NumvfsLock.ONE_CARD if not series or series >= _ASSUMED_FROM else NumvfsLock.NONE
    first, fixed = known
    if patch < first:
        return NumvfsLock.NONE
    return NumvfsLock.DEADLOCKS if fixed is None or patch < fixed else NumvfsLock.ONE_CARD


@frozen(slots=True)
class NumvfsOwner:
    """The PF whose `sriov_numvfs` is being written. `since` is in seconds since the epoch, `until` CLOCK_MONOTONIC."""

    pf: PciAddress
    since: float
    until: float  # after that the write hangs


@frozen(slots=True)
class KernelBusy:
    """Why a PF cannot have its VFs created or removed now. `hangs`: the kernel may not return for hours."""

    text: str
    hangs: bool
