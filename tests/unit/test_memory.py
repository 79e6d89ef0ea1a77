# SPDX-License-Identifier: Apache-2.0
"""Memory that the idle service returns to the kernel."""

import gc
import subprocess
import sys
from pathlib import Path

from vfagent.process import memory


def test_freed_tuples_are_not_kept() -> None:
    """Python keeps 2,000 of each length until a full collection, a considerable part of the service's memory."""
    gc.collect()
    before = sys.getallocatedblocks()
    held = [tuple(str(number) for number in range(count % 18)) for count in range(20_000)]
    del held
    kept = sys.getallocatedblocks() - before
    memory.collect()
    left = sys.getallocatedblocks() - before
    assert left < kept / 4


def test_transparent_huge_pages_are_off_for_the_process_and_its_children() -> None:
    program = (
        "from vfagent.process import memory; memory.small_pages()\n"
        "import subprocess; subprocess.run(['grep', 'THP_enabled', '/proc/self/status'], check=True)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["THP_enabled:", "0"]
