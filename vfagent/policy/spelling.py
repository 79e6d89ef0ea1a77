# SPDX-License-Identifier: Apache-2.0
"""Suggestions for mistyped words.

Not by difflib, which takes letters in the same order for alike: it rates "virtio-pci", a driver, closer to "vfio-pci"
(0.78) than `hots` to "host" and `kepe` to "keep" (0.75), where two letters are swapped. No cutoff has both right.
"""

from collections.abc import Iterable

_LONGEST = 64
_SHORTEST_STEM = 3


def suggestion(word: str, known: Iterable[str]) -> str:
    """`, did you mean "vlan"?`, or nothing."""
    name = nearest(word, known)
    return f', did you mean "{name}"?' if name else ""


def nearest(word: str, known: Iterable[str], most_edits: int = _LONGEST) -> str | None:
    """The known word with the fewest edits, at most one per three letters. Case does not count."""
    if len(word) > _LONGEST:
        return None
    distances = [(_edits(word.lower(), name.lower()), abs(len(word) - len(name)), name) for name in known]
    near = [
        (edits, length, name)
        for edits, length, name in distances
        if edits <= min(most_edits, max(len(word), len(name)) // 3)
    ]
    return min(near, key=lambda distance: distance[:2])[2] if near else None


def _edits(word: str, name: str) -> int:
    """A prefix of the other word counts as one edit."""
    shorter, longer = sorted((word, name), key=len)
    if len(shorter) >= _SHORTEST_STEM and longer != shorter and longer.startswith(shorter):
        return 1
    return _distance(word, name)


def _distance(word: str, name: str) -> int:
    """Letters removed, inserted, replaced, or swapped with the next: the optimal string alignment distance."""
    before: list[int] = []
    row = list(range(len(name) + 1))
    for i, letter in enumerate(word, 1):
        earlier, before, row = before, row, [i]
        for j, other in enumerate(name, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and (letter, word[i - 2]) == (name[j - 2], other):
                cost = min(cost, earlier[j - 2] + 1)
            row.append(cost)
    return row[-1]
