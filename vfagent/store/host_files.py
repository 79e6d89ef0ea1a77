# SPDX-License-Identifier: Apache-2.0
"""A host's text files below a root, as far as this user may read them. Only regular files: a FIFO would block."""

import fnmatch
import grp
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from vfagent.guests.spec.files import FileFacts
from vfagent.kernel.rooted import leaves

_MOST = 1 << 20


class HostFiles:
    """`denied` collects the paths that this user may not read."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = os.path.realpath(root)
        self.denied: set[str] = set()

    def read(self, path: str) -> str | None:
        content = self.read_bytes(path)
        return None if content is None else content.decode("utf-8", "replace")

    def read_bytes(self, path: str, most: int = _MOST) -> bytes | None:
        """None where it is absent, unreadable or no regular file, or a symbolic link that leaves the root."""
        if self._leaves(path):
            return None
        try:
            fd = os.open(self._full(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            self._note(path, error)
            return None
        try:
            return _regular(fd, most)
        except OSError as error:
            self._note(path, error)
            return None
        finally:
            os.close(fd)

    def names(self, path: str) -> list[str]:
        if self._leaves(path):
            return []
        try:
            return sorted(os.listdir(self._full(path)))
        except OSError as error:
            self._note(path, error)
            return []

    def matching(self, folder: str, pattern: str) -> Iterator[str]:
        """The paths in a folder whose names match the pattern."""
        return (f"{folder}/{name}" for name in self.names(folder) if fnmatch.fnmatchcase(name, pattern))

    def exists(self, path: str) -> bool:
        return not self._leaves(path) and os.path.exists(self._full(path))

    def _full(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}"

    def _leaves(self, path: str) -> bool:
        return leaves(self._root, self._full(path))

    def _note(self, path: str, error: OSError) -> None:
        if isinstance(error, PermissionError):
            self.denied.add(f"/{path}")


def _regular(fd: int, most: int) -> bytes | None:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return None
    with open(fd, "rb", closefd=False) as file:
        return file.read(most)


def facts_in(root: Path) -> Callable[[str], FileFacts | None]:
    """What QEMU finds at a path, in its group kvm. In a copy every path counts.

    A path in a folder that is hidden from the service does not exist.
    """
    copied = is_copy(root)
    return lambda path: FileFacts("file") if copied else _facts(root, path)


def is_copy(root: Path) -> bool:
    """Whether it has no /usr/bin: a copy of another host's /sys and policy."""
    return not (root / "usr/bin").exists()


def _facts(root: Path, path: str) -> FileFacts | None:
    full = root / path.lstrip("/")
    try:
        target = os.path.realpath(full)
        if (device := "/" + os.path.relpath(target, root)).startswith("/dev/"):
            return FileFacts("other", device=device)
        status = os.stat(full)
    except OSError:
        return None
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "folder"}
    kvm = _gid_of_kvm()
    bits = status.st_mode >> (3 if status.st_gid == kvm else 0)
    listed = _has_access_list(full)  # what that adds is not known here: QEMU finds it
    owner, group = (_name(number, kvm) for number in (status.st_uid, status.st_gid))
    return FileFacts(
        kinds.get(stat.S_IFMT(status.st_mode), "special file"),
        read=listed or bool(bits & 4),
        write=listed or bool(bits & 2),
        users=f"{owner}:{group}, mode {stat.S_IMODE(status.st_mode):04o}",
    )


def _gid_of_kvm() -> int | None:
    try:
        return grp.getgrnam("kvm").gr_gid
    except KeyError:
        return None


def _name(number: int, kvm: int | None) -> str:
    """Without a name service, which may hang."""
    return {0: "root", kvm: "kvm"}.get(number, str(number))


def _has_access_list(path: Path) -> bool:
    try:
        return "system.posix_acl_access" in os.listxattr(path)
    except OSError:
        return False
