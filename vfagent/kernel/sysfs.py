# SPDX-License-Identifier: Apache-2.0
"""Reads and writes sysfs below a root.

Never read `sriov_numvfs` with it: newer kernels take the device lock for that, and while a removal waits for a guest,
the reader cannot even be killed. Count the `virtfn*` links instead.
"""

import logging
import os
from pathlib import Path

from vfagent.kernel.rooted import leaves

log = logging.getLogger(__name__)

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC  # a copied tree may have a FIFO
_MOST = 64 * 1024  # a sysfs attribute is a page; a file in a copied tree may be longer


class RootedSysfs:
    def __init__(self, root: Path = Path("/")) -> None:
        self._root = str(root).rstrip("/")
        self._real = os.path.realpath(root)

    def _leaves(self, path: str) -> bool:
        return bool(self._root) and leaves(self._real, f"{self._root}/{path}")

    def read(self, path: str) -> str | None:
        if self._leaves(path):
            return None
        # Plain descriptors: a reconcile reads thousands of VFs, and open() takes three times as long.
        try:
            fd = os.open(f"{self._root}/{path}", _READ)
        except OSError:
            return None
        try:
            return os.read(fd, _MOST).decode("utf-8", "replace").strip()
        except OSError:
            return None
        finally:
            os.close(fd)

    def names(self, path: str) -> list[str]:
        if self._leaves(path):
            return []
        try:
            return sorted(os.listdir(f"{self._root}/{path}"))
        except OSError:
            return []

    def link(self, path: str) -> str | None:
        """The last part of the link's target. In a copied tree the target may be absent."""
        if self._leaves(path.rpartition("/")[0]):
            return None
        try:
            return os.readlink(f"{self._root}/{path}").rpartition("/")[2]
        except OSError:
            return None

    def exists(self, path: str) -> bool:
        return not self._leaves(path) and os.path.exists(f"{self._root}/{path}")

    def write(self, path: str, text: str) -> None:
        """One write() of the whole text, as sysfs needs it. Raises OSError."""
        log.debug("write %s: %r", path, text)
        fd = os.open(f"{self._root}/{path}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
