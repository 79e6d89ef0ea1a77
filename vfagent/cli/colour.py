# SPDX-License-Identifier: Apache-2.0
"""Whether text is coloured: `--color`, else by the terminal, NO_COLOR and TERM."""

import os
import sys

CHOICES = ("auto", "always", "never")


def coloured(choice: str) -> bool:
    if choice != "auto":
        return choice == "always"
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
