# SPDX-License-Identifier: Apache-2.0
"""The user's iPXE source tree: its version, and which devices it has drivers for."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from vfagent.errors import VfagentError
from vfagent.frozen import frozen
from vfagent.guests.spec.rom import digest, drivers_in

_TOOLS = ("make", "gcc", "perl")
_PACKAGES = "apt install gcc make perl liblzma-dev"
_UNSEEN = "the service cannot read /home, /root and /tmp; put it into /usr/src/ipxe, for example"


@frozen(slots=True)
class Tree:
    """`digest` is of its files' names, sizes and modification times."""

    path: Path
    version: str
    digest: str


def open_tree(path: Path) -> Tree:
    makefile = path / "src/Makefile"
    try:
        text = makefile.read_text(errors="replace")
    except OSError as error:
        raise VfagentError(f"{path}: cannot build ROMs: {makefile}: {error.strerror}", hint=_UNSEEN) from error
    parts = dict(re.findall(r"^VERSION_(MAJOR|MINOR|PATCH)\s*:?=\s*([0-9]+)", text, re.MULTILINE))
    version = ".".join(parts[name] for name in ("MAJOR", "MINOR", "PATCH") if name in parts)
    if not version:
        raise VfagentError(f"{path}: cannot build ROMs: {makefile} is not that of iPXE", hint=_UNSEEN)
    return Tree(path, version, digest("\n".join(_files(path / "src")).encode()))


def _files(folder: Path) -> Iterator[str]:
    for place, folders, names in os.walk(folder):
        # Built files are not sources.
        folders[:] = sorted(name for name in folders if not re.fullmatch("bin(-.*)?", name))
        for name in sorted(names):
            facts = os.lstat(os.path.join(place, name))
            yield f"{os.path.relpath(place, folder)}/{name} {facts.st_size} {facts.st_mtime_ns}"


def devices_of(tree: Tree) -> frozenset[str]:
    """Vendor and device IDs that its network drivers list."""
    sources = (tree.path / "src/drivers/net").rglob("*.c")
    return frozenset(device for path in sources for device in drivers_in(path.read_text(errors="replace")))


def check_tools() -> None:
    if missing := [name for name in _TOOLS if not shutil.which(name)]:
        raise VfagentError(f"cannot build ROMs: no {' and no '.join(missing)} on this host", hint=_PACKAGES)
