# SPDX-License-Identifier: Apache-2.0
"""A short form of the benchmarks, for CI: fails if a ratio is worse than its bar. Absolute times do not matter.

The median of the rounds' ratios counts: a busy machine slows down both sides of a round, and the best of each side are
of different rounds. Their number is fixed: rounds that are added until the bar holds would be another, looser bar.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from tests.bench.__main__ import run
from tests.bench.contestants import FLOOR, VFAGENT, contestants
from tests.bench.scale import observe_s

ROUNDS = 16  # the ratio of a round varies by 6 %, and the median of these by 2 %
CONVERGENCE = 1.1  # ratio to the straight line of the same calls
GROWTH = 1.5  # ratio of the time per VF of an observation, 16 PFs to 4


def scheduler() -> float:
    both = [contestant for contestant in contestants() if contestant.name in (FLOOR, VFAGENT)]
    seconds = run(ROUNDS, both).single
    return median(run_s / floor_s for run_s, floor_s in zip(seconds[VFAGENT], seconds[FLOOR], strict=True))


def growth() -> float:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="vfagent-guard-") as name:
        few, many = (observe_s(count, Path(name) / str(count)) / count for count in (4, 16))
    return many / few


def verdicts() -> Iterator[bool]:
    for what, ratio, bar in (
        ("time per VF of an observation, 16 PFs to 4", growth(), GROWTH),
        ("event to 7 ready VFs, to the straight line", scheduler(), CONVERGENCE),
    ):
        held = ratio <= bar
        print(f"{'ok' if held else 'TOO SLOW'}: {what}: {ratio:.2f} (bar {bar})", flush=True)
        yield held


if __name__ == "__main__":
    sys.exit(not all(list(verdicts())))
