# SPDX-License-Identifier: Apache-2.0
"""A short form of the benchmarks, for CI: fails if a ratio is worse than its bar. Absolute times do not matter.

The best of a few rounds counts, because a busy machine slows down both sides. If that is worse than the bar, the
same number of rounds runs again, up to three times: a program that is too slow has no fast round, however many it has.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.__main__ import run
from tests.bench.contestants import FLOOR, VFAGENT, contestants
from tests.bench.scale import observe_s

ROUNDS = 3
CONVERGENCE = 1.1  # ratio to the straight line of the same calls
GROWTH = 1.5  # ratio of the time per VF of an observation, 16 PFs to 4


def scheduler() -> float:
    seconds_by_name: dict[str, list[float]] = {FLOOR: [], VFAGENT: []}
    for _ in range(4):
        for name, seconds in run(
            ROUNDS, [contestant for contestant in contestants() if contestant.name in seconds_by_name]
        ).single.items():
            seconds_by_name[name] += seconds
        if (ratio := min(seconds_by_name[VFAGENT]) / min(seconds_by_name[FLOOR])) <= CONVERGENCE:
            break
    return ratio


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
