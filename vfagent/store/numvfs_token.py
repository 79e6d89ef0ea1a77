# SPDX-License-Identifier: Apache-2.0
"""A lock of the host's processes for writes of `sriov_numvfs`, where the kernel does one of them at a time.

Who waits for it can be ended and can say so; who waits in the kernel can do neither. It is flock's: it ends with the
process that has it, and a process in D state keeps it.
"""

import contextlib
import fcntl
import json
import os
import threading
from pathlib import Path

from vfagent.model.codec import decode, encode
from vfagent.model.numvfs_lock import NumvfsOwner

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST = 4096


class NumvfsTokenFile:
    """Used by one process at a time for one PF: take, write and free it in turn."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._path = root / "run/vfagent/numvfs"
        self._fd = -1
        self._lock = threading.Lock()
        self._waiter: _Waiter | None = None

    def take(self, within_s: float) -> bool:
        """Whether this process has the token now. Without a file for it, nobody waits for anybody."""
        if self._waiter is None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                fd = os.open(self._path, _FLAGS, 0o600)
            except OSError:
                return True
            if _locked(fd):
                self._fd = fd
                return True
            self._waiter = _Waiter(fd)
        if not self._waiter.taken.wait(within_s):
            return False
        self._fd, self._waiter = self._waiter.fd, None
        return True

    def owner(self) -> NumvfsOwner | None:
        """What the owner has written of itself; for a moment it may be the one before it."""
        try:
            with open(self._path, "rb") as file:
                return decode(NumvfsOwner, json.loads(file.read(_MOST)))
        except (OSError, ValueError, RecursionError):
            return None

    def write(self, owner: NumvfsOwner) -> None:
        """For those who wait. Without a place for it they wait all the same."""
        with self._lock, contextlib.suppress(OSError):
            if self._fd >= 0:
                data = json.dumps(encode(owner)).encode()
                os.pwrite(self._fd, data, 0)
                os.ftruncate(self._fd, len(data))

    def free(self) -> None:
        """Give it to another process, or wait for it no longer."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = -1
        if self._waiter:
            self._waiter.leave()
            self._waiter = None


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # no locks to be had: as without a file
        return True
    return True


class _Waiter:
    """flock() has no deadline, so it waits in a thread."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.taken = threading.Event()
        self._left = False
        self._lock = threading.Lock()
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        with contextlib.suppress(OSError):
            fcntl.flock(self.fd, fcntl.LOCK_EX)
        with self._lock:
            self.taken.set()
            if self._left:
                os.close(self.fd)

    def leave(self) -> None:
        with self._lock:
            self._left = True
            if self.taken.is_set():
                os.close(self.fd)
