# SPDX-License-Identifier: Apache-2.0
"""Text files of a host, below a root, as far as this user may read them. Nothing else is opened: a FIFO would hang."""

import fnmatch
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

_MOST = 1 << 20


class HostFiles:
    """`denied` collects what is there and could not be read."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = os.path.realpath(root)
        self.denied: set[str] = set()

    def read(self, path: str) -> str | None:
        content = self.read_bytes(path)
        return None if content is None else content.decode("utf-8", "replace")

    def read_bytes(self, path: str, most: int = _MOST) -> bytes | None:
        """None where it is absent, no regular file, not to be read, or a link out of a tree that was copied."""
        whole = f"{self._root.rstrip('/')}/{path}"
        if not self._inside(whole):
            return None
        try:
            fd = os.open(whole, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
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

    def _inside(self, whole: str) -> bool:
        return self._root == "/" or os.path.realpath(whole).startswith(f"{self._root}/")

    def names(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(f"{self._root.rstrip('/')}/{path}"))
        except OSError as error:
            self._note(path, error)
            return []

    def matching(self, folder: str, pattern: str) -> Iterator[str]:
        """The paths in a folder whose names match."""
        return (f"{folder}/{name}" for name in self.names(folder) if fnmatch.fnmatchcase(name, pattern))

    def exists(self, path: str) -> bool:
        return os.path.exists(f"{self._root.rstrip('/')}/{path}")

    def _note(self, path: str, error: OSError) -> None:
        if isinstance(error, PermissionError):
            self.denied.add(f"/{path}")


def _regular(fd: int, most: int) -> bytes | None:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return None
    with open(fd, "rb", closefd=False) as file:
        return file.read(most)


def seen_in(root: Path) -> Callable[[str], bool]:
    """Whether a path is there. In a tree without /usr/bin, a copy of what the kernel shows, no program is missed.

    What lies in a folder that is hidden from the service is not there: pathlib's own exists() raises for it.
    """
    copied = not (root / "usr/bin").exists()
    return lambda path: copied or os.path.exists(root / path.lstrip("/"))
