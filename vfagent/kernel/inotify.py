# SPDX-License-Identifier: Apache-2.0
"""inotify(7) on folders, through libc: the standard library has no inotify."""

import ctypes
import os
from pathlib import Path

CLOSED = 0x8 | 0x10  # IN_CLOSE_WRITE, IN_CLOSE_NOWRITE
MADE = 0x80 | 0x100  # IN_MOVED_TO, IN_CREATE
_READ = 1 << 14


class FolderMonitor:
    """Watches the folders that exist; `drain` adds those created since. Raises OSError where no instance is left.

    `watches` is their number; with 0 there will be no event.
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
        # To watch a folder twice changes nothing. A missing one is tried again at the next event.
        add = self._libc.inotify_add_watch
        self.watches = sum(int(add(self._fd, os.fsencode(folder), self._events)) >= 0 for folder in self._folders)

    def fileno(self) -> int:
        return self._fd

    def drain(self) -> None:
        """Discard all events: they only say that something changed."""
        try:
            while os.read(self._fd, _READ):
                pass
        except BlockingIOError:
            self._watch()

    def close(self) -> None:
        os.close(self._fd)


def vfio_monitor(folder: Path = Path("/dev/vfio")) -> FolderMonitor:
    """Tells of a closed VFIO file, whose VF may be free now: vfio-pci sends no uevent when its user closes it.

    Groups are files in the folder; iommufd's device files are in devices/ below it.
    """
    return FolderMonitor((folder, folder / "devices"), CLOSED)
