# SPDX-License-Identifier: Apache-2.0
"""A policy without the texts that may be secrets: seeds and credentials of guests that are in it, not in files."""

import re

from vfagent.policy.positions import Positions, scan, string_at
from vfagent.policy.problems import KeyPath

LEFT_OUT = '"left out by vfagent report"'
_REST = "\n# The rest is left out by vfagent report: it is not TOML, so that nobody knows which texts are secrets.\n"
_BARE = re.compile(r"[^\s\[{,\]}#][^,\]}#\n]*")  # no value of TOML that is allowed there
_TABLES = {"seed", "credentials"}


def without_inline_texts(text: str) -> str:
    """Paths of files stay, and so do comments. Of what is not TOML, only the beginning stays."""
    positions = scan(text)
    pieces, at, end = list[str](), 0, _end(positions)
    for path, offset in sorted(positions.values.items(), key=lambda item: item[1]):
        if not _may_be_secret(path) or offset < at or offset >= end:
            continue
        bare = _BARE.match(text, offset)
        value = string_at(text, offset) or (bare[0] if bare else "")
        if value and not value.strip("\"'").startswith("/"):
            pieces += [text[at:offset], LEFT_OUT]
            at = offset + len(value)
    rest = text[at:end]
    return "".join((*pieces, rest, _REST if end < len(text) else ""))


def _may_be_secret(path: KeyPath) -> bool:
    return path[0] == "guest" and not _TABLES.isdisjoint(part for part in path if isinstance(part, str))


def _end(positions: Positions) -> int:
    """Where it stops to be TOML. Of a key that is there twice, only one value is known."""
    twice = [min(duplicate.first, duplicate.offset) for duplicate in positions.duplicates]
    unread = [offset for offset in (positions.stopped, positions.too_deep) if offset is not None]
    end = min([*twice, *unread], default=len(positions.text))
    return end if end == len(positions.text) else positions.text.rfind("\n", 0, end) + 1
