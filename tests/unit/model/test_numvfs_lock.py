# SPDX-License-Identifier: Apache-2.0
"""Which kernels create VFs of one card at a time. The releases are those of the stable announcements."""

import pytest

from vfagent.model.numvfs_lock import NumvfsLock, kernel_version, numvfs_lock


@pytest.mark.parametrize(
    ("release", "banner", "lock"),
    [
        ("6.1.0-41-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.158-1 (2025-11-09)", NumvfsLock.DEADLOCKS),
        ("6.1.0-40-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.153-1 (2025-09-20)", NumvfsLock.NONE),
        ("6.12.117+deb13-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1 (2026-11-01)", NumvfsLock.ONE_CARD),
        ("6.19-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.19-1~exp1 (2026-02-10)", NumvfsLock.DEADLOCKS),
        ("5.4.300", "", NumvfsLock.NONE),
        ("5.4.301", "", NumvfsLock.DEADLOCKS),
        ("5.10.252", "", NumvfsLock.ONE_CARD),
        ("5.15.201", "", NumvfsLock.DEADLOCKS),
        ("6.6.112", "", NumvfsLock.NONE),
        ("6.6.128", "", NumvfsLock.ONE_CARD),
        ("6.12.53", "", NumvfsLock.NONE),
        ("6.12.54", "", NumvfsLock.DEADLOCKS),
        ("6.12.75", "", NumvfsLock.ONE_CARD),
        ("6.17.3-arch1-1", "", NumvfsLock.NONE),
        ("6.17.13-2-pve", "", NumvfsLock.DEADLOCKS),
        ("6.18.0", "", NumvfsLock.DEADLOCKS),
        ("6.18.16-200.fc43.x86_64", "", NumvfsLock.ONE_CARD),
        ("6.19.5", "", NumvfsLock.DEADLOCKS),
        ("7.0.0", "", NumvfsLock.ONE_CARD),
        ("7.1-rc1", "", NumvfsLock.ONE_CARD),
        # The numbers of these say nothing of their patches.
        ("5.14.0-611.el9.x86_64", "", NumvfsLock.NONE),
        ("5.15.0-161-generic", "", NumvfsLock.NONE),
        ("6.8.0-90-generic", "", NumvfsLock.NONE),
        ("6.8.12-16-pve", "", NumvfsLock.NONE),
        ("6.12.0-124.el10.x86_64", "", NumvfsLock.ONE_CARD),
        ("6.14.0-37-generic", "", NumvfsLock.ONE_CARD),
        ("6.17.0-8-generic", "", NumvfsLock.ONE_CARD),
        ("", "", NumvfsLock.ONE_CARD),
    ],
)
def test_the_version_tells_whether_cards_wait_for_each_other(release: str, banner: str, lock: NumvfsLock) -> None:
    assert numvfs_lock(kernel_version(release, banner)) is lock
