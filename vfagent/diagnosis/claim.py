# SPDX-License-Identifier: Apache-2.0
"""What somebody else wants of a PF. Pure."""

from vfagent.frozen import frozen


@frozen(slots=True)
class Claim:
    """What somebody else wants of a card, and where that is written."""

    who: str
    path: str
    what: str
    advice: str
    writes: bool = True  # VFs are made or set; else only used
