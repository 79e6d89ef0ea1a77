# SPDX-License-Identifier: Apache-2.0
"""How much the model tests have tried, for the line at their end."""

from collections import Counter

counted: Counter[str] = Counter()


def line() -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counted.items()))
