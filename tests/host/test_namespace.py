# SPDX-License-Identifier: Apache-2.0
"""The rig's own namespaces."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

from tests.host.namespace import private_kernel


def test_a_thread_that_still_ends_does_not_keep_the_process_in_the_private_kernel() -> None:
    """Python joins a thread a little before the kernel has ended it."""
    outside = os.readlink("/proc/thread-self/ns/mnt")
    release = threading.Event()
    with ThreadPoolExecutor() as threads:
        try:
            with private_kernel():
                inside = os.readlink("/proc/thread-self/ns/mnt")
                threads.submit(release.wait)
        finally:
            release.set()
    assert inside != outside == os.readlink("/proc/thread-self/ns/mnt")
