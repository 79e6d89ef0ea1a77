# SPDX-License-Identifier: Apache-2.0
"""A short form of the benchmarks, for CI: fails where a ratio is worse than its bar. Times are not looked at.

Of a few rounds the least of each counts, as a busy machine takes longer for either; and where that is worse than the
bar, the least of as many again too.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.__main__ import run
from tests.bench.contestants import FLOOR, VFAGENT, contestants
from tests.bench.scale import look_s

ROUNDS = 3
CONVERGENCE = 1.1  # of the straight line of the same calls
GROWTH = 1.5  # of a VF's part of a look, from 4 PFs to 16


def scheduler() -> float:
    found: dict[str, list[float]] = {FLOOR: [], VFAGENT: []}
    for _ in range(2):
        for name, seconds in run(ROUNDS, [one for one in contestants() if one.name in found]).one.items():
            found[name] += seconds
        if (ratio := min(found[VFAGENT]) / min(found[FLOOR])) <= CONVERGENCE:
            break
    return ratio


def growth() -> float:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="vfagent-guard-") as name:
        few, many = (look_s(count, Path(name) / str(count)) / count for count in (4, 16))
    return many / few


def verdicts() -> Iterator[bool]:
    for what, found, bar in (
        ("a look, per VF, on a host four times as large", growth(), GROWTH),
        ("event to 7 ready VFs, to the straight line", scheduler(), CONVERGENCE),
    ):
        held = found <= bar
        print(f"{'ok' if held else 'TOO SLOW'}: {what}: {found:.2f} (bar {bar})", flush=True)
        yield held


if __name__ == "__main__":
    sys.exit(not all(list(verdicts())))
