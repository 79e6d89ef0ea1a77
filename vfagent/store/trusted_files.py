# SPDX-License-Identifier: Apache-2.0
"""Files that a policy names and root's service reads: only those that nobody but root can change.

Folders are checked on the way to the file too: who can write one of them can replace what is below it.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from vfagent.errors import VfagentError
from vfagent.kernel.rooted import leaves

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_MOST_LINKS = 40  # as in the kernel: MAXSYMLINKS
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
    is absent. Links are followed: each folder on the way is checked."""
    owners = _trusted_owners(root)
    if why := _way_defect(root, file, owners):
        return why
    if (facts := _facts(root, file)) is None:
        return None
    if why := _owner_defect(facts, owners, "it", file):
        return why
    if secret and facts.st_mode & _OTHERS_READ:
        return f"users other than root can read it (mode {stat.S_IMODE(facts.st_mode):04o}); chmod 0600 {file}"
    return None


def distrust_disk(root: Path, file: str, group: int | None) -> str | None:
    """As distrust, for a disk image: `group`, whose members the guests are, may write it. A block device has no image
    that somebody could put in its place: udev made it."""
    owners = _trusted_owners(root)
    facts = _facts(root, file)
    if facts is None or stat.S_ISBLK(facts.st_mode):
        return None
    if why := _way_defect(root, file, owners):
        return why
    if facts.st_uid not in owners:
        return f"it belongs to user {facts.st_uid}; chown root {file}"
    mode = stat.S_IMODE(facts.st_mode)
    if mode & stat.S_IWOTH:
        return f"all users can write it (mode {mode:04o}); chmod o-w {file}"
    if mode & stat.S_IWGRP and facts.st_gid != group:
        return f"group {facts.st_gid} can write it (mode {mode:04o}); chgrp kvm {file}"
    return None


def _facts(root: Path, file: str) -> os.stat_result | None:
    path = root / file.lstrip("/")
    try:
        return None if root != Path("/") and leaves(os.path.realpath(root), str(path)) else os.stat(path)
    except OSError:
        return None


def _way_defect(root: Path, file: str, owners: frozenset[int]) -> str | None:
    for folder in _folders_to(root, file):
        if why := _folder_defect(folder, owners):
            return why
    return None


def _folders_to(root: Path, file: str) -> Iterator[Path]:
    """Each folder below the root in which a part of the path is looked up, those on the way of links included."""
    seen: dict[Path, None] = {}
    at, parts, links = root, list(reversed(Path(file.lstrip("/")).parts)), 0
    while parts:
        seen.setdefault(at)
        part = parts.pop()
        if part == "..":
            at = at.parent
            continue
        try:
            target = os.readlink(at / part)
        except OSError:
            at = at / part
            continue
        links += 1
        if links > _MOST_LINKS:
            break
        if target.startswith("/"):
            at = Path("/")
        parts += reversed(Path(target.lstrip("/")).parts)
    yield from (folder for folder in seen if folder == root or root in folder.parents)


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
