# SPDX-License-Identifier: Apache-2.0
"""What the service gives back when it is at rest."""

import gc
import sys

from vfagent.host import memory


def test_freed_tuples_are_not_kept() -> None:
    """2,000 of each length are kept by Python until then, and they are no small part of what the service holds."""
    gc.collect()
    before = sys.getallocatedblocks()
    held = [tuple(str(number) for number in range(count % 18)) for count in range(20_000)]
    del held
    kept = sys.getallocatedblocks() - before
    memory.collect()
    left = sys.getallocatedblocks() - before
    assert left < kept / 4
