# SPDX-License-Identifier: Apache-2.0
"""Files that a policy names and root's service reads: only those that nobody but root can change.

Folders are checked on the way to the file too: who can write one of them can replace what is below it.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from vfagent.errors import VfagentError

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS_READ = stat.S_IRGRP | stat.S_IROTH


def read_trusted(root: Path, file: str, purpose: str, most: int, *, secret: bool = False) -> bytes:
    """The content of a regular file of at most `most` bytes that is no symbolic link.

    `secret`: nor may others read it. Raises VfagentError, which names the file, its purpose and what is wrong with it.
    """
    try:
        path = _without_links(root, file)
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise refusal(file, purpose, _why_not_opened(root, file, error)) from error
    try:
        if why := _file_defect(os.fstat(fd), most) or distrust(root, file, secret=secret):
            raise refusal(file, purpose, why)
        with open(fd, "rb", closefd=False) as opened:
            data = opened.read(most + 1)
    finally:
        os.close(fd)
    if len(data) > most:
        raise refusal(file, purpose, _too_large(most))
    return data


def distrust(root: Path, file: str, *, secret: bool = False) -> str | None:
    """Why somebody other than root may have written it (`secret`: or may read it); None where nobody can, or where it
    is absent. Links are followed: each folder on either way is checked."""
    path = root / file.lstrip("/")
    real = Path(os.path.realpath(path))
    owners = _trusted_owners(root)
    for place in dict.fromkeys((*_ancestors(path, root), *_ancestors(real, root))):
        if why := _folder_defect(place, owners):
            return why
    try:
        facts = os.stat(real)
    except OSError:
        return None
    if why := _owner_defect(facts, owners, "it", file):
        return why
    if secret and facts.st_mode & _OTHERS_READ:
        return f"users other than root can read it (mode {stat.S_IMODE(facts.st_mode):04o}); chmod 0600 {file}"
    return None


def refusal(file: str, purpose: str, why: str) -> VfagentError:
    return VfagentError(f"{file}: cannot use it as {purpose}: {why}")


def _without_links(root: Path, file: str) -> str:
    path = root / file.lstrip("/")
    return f"{os.path.realpath(path.parent)}/{path.name}"


def _why_not_opened(root: Path, file: str, error: OSError) -> str:
    return "it is a symbolic link" if os.path.islink(root / file.lstrip("/")) else error.strerror or str(error)


def _file_defect(facts: os.stat_result, most: int) -> str | None:
    if not stat.S_ISREG(facts.st_mode):
        return "it is not a regular file"
    return _too_large(most) if facts.st_size > most else None


def _too_large(most: int) -> str:
    return f"it has more than {most >> 20} MiB" if most >= 1 << 20 else f"it has more than {most} bytes"


def _ancestors(path: Path, root: Path) -> Iterator[Path]:
    """The folders from the root down to the file's own."""
    inside = [parent for parent in path.parents if parent == root or root in parent.parents]
    yield from reversed(inside)


def _folder_defect(folder: Path, owners: frozenset[int]) -> str | None:
    try:
        facts = os.stat(folder)
    except OSError:
        return None
    # In a sticky folder only its owner and a file's owner can replace the file.
    if facts.st_mode & stat.S_ISVTX and facts.st_uid in owners:
        return None
    return _owner_defect(facts, owners, f"its folder {folder}", str(folder))


def _owner_defect(facts: os.stat_result, owners: frozenset[int], what: str, path: str) -> str | None:
    if facts.st_uid not in owners:
        return f"{what} belongs to user {facts.st_uid}; chown root {path}"
    if facts.st_mode & _OTHERS_WRITE:
        return f"users other than root can write {what} (mode {stat.S_IMODE(facts.st_mode):04o}); chmod go-w {path}"
    return None


def _trusted_owners(root: Path) -> frozenset[int]:
    """root, this user, and whoever copied a host's tree."""
    return frozenset((0, os.geteuid(), os.stat(root).st_uid))
