# SPDX-License-Identifier: Apache-2.0
"""The user's iPXE source tree: its version, and which devices it has drivers for.

It is read by root, and may be anybody's: regular files only, opened without following a link, with bounds on their
number and sizes. A clone of iPXE has some 4,000 files and 40 MiB in src.
"""

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from vfagent.errors import VfagentError
from vfagent.frozen import frozen
from vfagent.guests.spec.packages import ROM_BUILD
from vfagent.guests.spec.rom import drivers_in

_TOOLS = ("make", "gcc", "perl")
_UNSEEN = "the service cannot read /home, /root and /tmp; put it into /usr/src/ipxe, for example"
_CLONE = "make a fresh clone of it"
_MOST_FILES = 50_000
_MOST_BYTES = 512 << 20
_MOST_IN_A_FILE = 64 << 20


@frozen(slots=True)
class Tree:
    """`digest` is of its files' names and contents."""

    path: Path
    version: str
    digest: str


def open_tree(path: Path) -> Tree:
    """Raises VfagentError."""
    makefile = path / "src/Makefile"
    try:
        text = _read(makefile, _MOST_IN_A_FILE).decode(errors="replace")
    except OSError as error:
        raise VfagentError(f"{path}: cannot build ROMs: {makefile}: {error.strerror}", hint=_UNSEEN) from error
    parts = dict(re.findall(r"^VERSION_(MAJOR|MINOR|PATCH)\s*:?=\s*([0-9]+)", text, re.MULTILINE))
    version = ".".join(parts[name] for name in ("MAJOR", "MINOR", "PATCH") if name in parts)
    if not version:
        raise VfagentError(f"{path}: cannot build ROMs: {makefile} is not that of iPXE", hint=_UNSEEN)
    return Tree(path, version, _digest(path))


def _digest(tree: Path) -> str:
    """Of what is built, so that a tree never gets the objects or the ROMs of another one."""
    digest, files, size = hashlib.sha256(), 0, 0
    for path in _sources(tree / "src"):
        try:
            data = _content(path)
        except OSError as error:
            raise VfagentError(f"{tree}: cannot build ROMs: {path}: {error.strerror}", hint=_CLONE) from error
        files, size = files + 1, size + len(data)
        if files > _MOST_FILES or size > _MOST_BYTES:
            bound = f"more than {_MOST_FILES} files or {_MOST_BYTES >> 20} MiB"
            raise VfagentError(f"{tree}: cannot build ROMs: its src has {bound}", hint=_CLONE)
        name = os.fsencode(path.relative_to(tree))
        digest.update(b"%d:%s%d:%s" % (len(name), name, len(data), data))
    return digest.hexdigest()[:16]


def _sources(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        # Built files are not sources.
        folders[:] = sorted(name for name in folders if not re.fullmatch("bin(-.*)?", name))
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        yield from (Path(place, name) for name in (*sorted(names), *links))


def _content(path: Path) -> bytes:
    if path.is_symlink():
        return b"link " + os.fsencode(os.readlink(path))
    return _read(path, _MOST_IN_A_FILE)


def _read(path: Path, most: int) -> bytes:
    """Raises OSError, also where it is not a regular file of at most `most` bytes."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(0, "it is not a regular file")
        with open(fd, "rb", closefd=False) as file:
            data = file.read(most + 1)
    finally:
        os.close(fd)
    if len(data) > most:
        raise OSError(0, f"it has more than {most >> 20} MiB")
    return data


def devices_of(tree: Tree) -> frozenset[str]:
    """Vendor and device IDs that its network drivers list."""
    sources = (path for path in _sources(tree.path / "src/drivers/net") if path.suffix == ".c")
    texts = (_content(path).decode(errors="replace") for path in sources)
    return frozenset(device for text in texts for device in drivers_in(text))


def check_tools() -> None:
    if missing := [name for name in _TOOLS if not shutil.which(name)]:
        raise VfagentError(f"cannot build ROMs: no {' and no '.join(missing)} on this host", hint=ROM_BUILD.hint)
