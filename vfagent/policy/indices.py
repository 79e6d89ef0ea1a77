# SPDX-License-Identifier: Apache-2.0
"""VF counts and sets of VF indices."""

from collections.abc import Iterator

from vfagent.frozen import frozen

LARGEST_COUNT = 65535  # TotalVFs has 16 bits


@frozen
class VfCount:
    """A number of VFs, or a percentage of totalvfs ("50%", or "max" for 100 percent)."""

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
        """The indices of the set below `count`."""
        for low, high in ((0, count - 1),) if self.ranges is None else self.ranges:
            yield from range(low, min(high + 1, count))

    def overlap(self, other: "IndexSet") -> int | None:
        """The lowest index in both."""
        own = ((0, LARGEST_COUNT),) if self.ranges is None else self.ranges
        others = ((0, LARGEST_COUNT),) if other.ranges is None else other.ranges
        starts = [max(a, c) for a, b in own for c, d in others if max(a, c) <= min(b, d)]
        return min(starts, default=None)


def vf_count(text: str) -> VfCount:
    """From "max" or "50%"."""
    return VfCount(percent=100 if text == "max" else int(text.removesuffix("%")))


def whole_vf_count(number: int) -> VfCount:
    return VfCount(number=number)


def index_set(text: str) -> IndexSet:
    """From "0,2,5-7" or "*". Raises ValueError for a reversed range, an index out of range and a repeated index."""
    if text == "*":
        return IndexSet()
    ranges: list[tuple[int, int]] = []
    for part in text.split(","):
        low, _, high = part.strip().partition("-")
        ranges.append(_checked_range(int(low), int(high or low), ranges))
    return IndexSet(tuple(ranges))


def _checked_range(low: int, high: int, before: list[tuple[int, int]]) -> tuple[int, int]:
    if high < low:
        raise ValueError(f"but {low}-{high} is reversed, did you mean {high}-{low}?")
    if high >= LARGEST_COUNT:
        raise ValueError(f"allowed are indices from 0 to {LARGEST_COUNT - 1}")
    twice = IndexSet(tuple(before)).overlap(IndexSet(((low, high),)))
    if twice is not None:
        raise ValueError(f"but it names index {twice} twice, allowed is each index once")
    return low, high
