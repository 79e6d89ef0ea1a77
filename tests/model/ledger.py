# SPDX-License-Identifier: Apache-2.0
"""How much the model tier has tried, for the line at its end."""

from collections import Counter

counted: Counter[str] = Counter()


def line() -> str:
    return ", ".join(f"{number} {what}" for what, number in sorted(counted.items()))
