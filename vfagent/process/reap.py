# SPDX-License-Identifier: Apache-2.0
"""Reaping a killed worker in the event loop; apart from `worker`, which the first reconcile loads without asyncio."""

import asyncio

from vfagent.process.worker import Worker


def reap(child: Worker) -> None:
    """Kill it, and collect it when it has ended. Not waited for: it may hang in the kernel."""
    loop = asyncio.get_running_loop()

    def collect() -> None:
        loop.remove_reader(child.pidfd)
        child.close()

    child.kill()
    loop.add_reader(child.pidfd, collect)
