# SPDX-License-Identifier: Apache-2.0
"""Reap a killed worker in the event loop. Not in `worker`, which the first reconcile loads without asyncio."""

import asyncio

from vfagent.process.worker import Worker


def reap(child: Worker) -> None:
    """Kill the worker, and reap it when it has exited. This does not wait: it may hang in the kernel."""
    loop = asyncio.get_running_loop()

    def collect() -> None:
        loop.remove_reader(child.pidfd)
        child.close()

    child.kill()
    loop.add_reader(child.pidfd, collect)
