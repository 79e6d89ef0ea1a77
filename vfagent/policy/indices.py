# SPDX-License-Identifier: Apache-2.0
"""How many VFs, and which of them."""

from collections.abc import Iterator

from vfagent.frozen import frozen

LARGEST_COUNT = 65535  # TotalVFs has 16 bits


@frozen
class VfCount:
    """How many VFs: a number, a share of totalvfs in percent ("50%"), or all ("max", 100 percent)."""

    number: int | None = None
    percent: int | None = None


@frozen
class IndexSet:
    """VF indices as written: "0", "0-2", "0,2,5-7" or "*" (then `ranges` is None)."""

    ranges: tuple[tuple[int, int], ...] | None = None

    def __contains__(self, index: int) -> bool:
        return self.ranges is None or any(low <= index <= high for low, high in self.ranges)

    def __str__(self) -> str:
        if self.ranges is None:
            return "*"
        return ",".join(f"{low}-{high}" if low < high else str(low) for low, high in self.ranges)

    def within(self, count: int) -> Iterator[int]:
        """The indices of the set that a PF with `count` VFs has."""
        for low, high in ((0, count - 1),) if self.ranges is None else self.ranges:
            yield from range(low, min(high + 1, count))

    def overlap(self, other: "IndexSet") -> int | None:
        """The lowest index in both."""
        mine = ((0, LARGEST_COUNT),) if self.ranges is None else self.ranges
        theirs = ((0, LARGEST_COUNT),) if other.ranges is None else other.ranges
        starts = [max(a, c) for a, b in mine for c, d in theirs if max(a, c) <= min(b, d)]
        return min(starts, default=None)


def vf_count(text: str) -> VfCount:
    """From "max" or "50%"."""
    return VfCount(percent=100 if text == "max" else int(text.removesuffix("%")))


def whole_vf_count(number: int) -> VfCount:
    return VfCount(number=number)


def index_set(text: str) -> IndexSet:
    """From "0,2,5-7" or "*"; raises ValueError for what no index can be in, or is in twice."""
    if text == "*":
        return IndexSet()
    ranges: list[tuple[int, int]] = []
    for part in text.split(","):
        low, _, high = part.strip().partition("-")
        ranges.append(_checked_range(int(low), int(high or low), ranges))
    return IndexSet(tuple(ranges))


def _checked_range(low: int, high: int, before: list[tuple[int, int]]) -> tuple[int, int]:
    if high < low:
        raise ValueError(f"but {low}-{high} runs backwards, allowed is {high}-{low}")
    if high >= LARGEST_COUNT:
        raise ValueError(f"allowed are indices from 0 to {LARGEST_COUNT - 1}")
    twice = IndexSet(tuple(before)).overlap(IndexSet(((low, high),)))
    if twice is not None:
        raise ValueError(f"but it names index {twice} twice, allowed is each index once")
    return low, high
