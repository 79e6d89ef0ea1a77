# SPDX-License-Identifier: Apache-2.0
"""Cards on the command line: by PCI address, by interface, or by a pattern of these."""

import os
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

from vfagent.errors import VfagentError
from vfagent.model.inventory import Pf
from vfagent.policy.match import names_of
from vfagent.policy.spelling import nearest

T = TypeVar("T")
STDIN = "-"


def names_of_pf(pf: Pf) -> tuple[str, ...]:
    return (*names_of_address(pf.address), *(name for netdev in pf.netdevs for name in names_of(netdev)))


def names_of_address(address: str) -> tuple[str, ...]:
    """`0000:3b:00.0` is also `3b:00.0`."""
    return (address, address.removeprefix("0000:"))


def chosen(patterns: Sequence[str], pfs: Iterable[T], names: Callable[[T], tuple[str, ...]]) -> list[T]:
    """The PFs that one of the patterns names; all of them without patterns."""
    present = [(pf, names(pf)) for pf in pfs]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for _, of_pf in present for name in of_pf):
            raise _unknown(pattern, [name for _, of_pf in present for name in of_pf])
    wanted = patterns or ("*",)
    return [pf for pf, of_pf in present if any(fnmatchcase(name, pattern) for name in of_pf for pattern in wanted)]


def _unknown(pattern: str, known: list[str]) -> VfagentError:
    meant = nearest(pattern, known)
    hint = f"did you mean {meant}?" if meant else "vfagent list shows the PFs; a file has a / or .toml in its name"
    return VfagentError(f"{pattern}: no PF here has this address or interface", hint=hint)


def files_and_cards(words: Iterable[str]) -> tuple[list[Path], list[str]]:
    """A file has a folder or a suffix in its name, or is there."""
    files, cards = list[Path](), list[str]()
    for word in words:
        if word == STDIN or "/" in word or word.endswith(".toml") or os.path.isfile(word):
            files.append(Path(word))
        else:
            cards.append(word)
    return files, cards
