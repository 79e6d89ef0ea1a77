# SPDX-License-Identifier: Apache-2.0
"""inotify on folders (inotify(7)). The standard library has none, so libc's is called."""

import ctypes
import os
from pathlib import Path

CLOSED = 0x8 | 0x10  # IN_CLOSE_WRITE, IN_CLOSE_NOWRITE
MADE = 0x80 | 0x100  # IN_MOVED_TO, IN_CREATE
_READ = 1 << 14


class FolderMonitor:
    """Watches the folders that are there; `drain` adds those that came. Raises OSError where no instance is left.

    `watches`: how many there are; without one there will be no event.
    """

    def __init__(self, folders: tuple[Path, ...], events: int) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"inotify_init1: {os.strerror(number)}")
        self._folders, self._events = folders, events | MADE
        self.watches = 0
        self._watch()

    def _watch(self) -> None:
        # Watching a folder again changes nothing; one that is not there is tried at the next event.
        add = self._libc.inotify_add_watch
        self.watches = sum(int(add(self._fd, os.fsencode(one), self._events)) >= 0 for one in self._folders)

    def fileno(self) -> int:
        return self._fd

    def drain(self) -> None:
        """Take what is there; that there was something is all that counts."""
        try:
            while os.read(self._fd, _READ):
                pass
        except BlockingIOError:
            self._watch()

    def close(self) -> None:
        os.close(self._fd)


def vfio_monitor(folder: Path = Path("/dev/vfio")) -> FolderMonitor:
    """A group's file was closed, so a VF that was held may be free: vfio-pci says nothing by uevent when its user goes.

    Groups are files in the folder; iommufd's device files are one below.
    """
    return FolderMonitor((folder, folder / "devices"), CLOSED)
