# SPDX-License-Identifier: Apache-2.0
"""What somebody may have meant by a word that is not known."""

from collections.abc import Iterable

_LONGEST = 64
_SHORTEST_STEM = 3


def suggestion(word: str, known: Iterable[str]) -> str:
    """`, did you mean "vlan"?`, or nothing."""
    meant = nearest(word, known)
    return f', did you mean "{meant}"?' if meant else ""


def nearest(word: str, known: Iterable[str], most_slips: int = _LONGEST) -> str | None:
    """The known word that takes the fewest slips of the pen, one in three letters at most; case is none."""
    if len(word) > _LONGEST:
        return None
    found = [(_slips(word.lower(), name.lower()), abs(len(word) - len(name)), name) for name in known]
    near = [one for one in found if one[0] <= min(most_slips, max(len(word), len(one[2])) // 3)]
    return min(near, key=lambda one: one[:2])[2] if near else None


def _slips(word: str, name: str) -> int:
    """The beginning of a word for the whole of it, or the reverse, counts as one."""
    shorter, longer = sorted((word, name), key=len)
    if len(shorter) >= _SHORTEST_STEM and longer != shorter and longer.startswith(shorter):
        return 1
    return _distance(word, name)


def _distance(word: str, name: str) -> int:
    """Letters left out, put in, mistaken, or swapped with the next (the optimal string alignment)."""
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
