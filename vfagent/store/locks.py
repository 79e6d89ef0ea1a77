# SPDX-License-Identifier: Apache-2.0
"""One agent at a time: a lock on its folder in /run. It needs no file, and so no space on a full disk."""

import fcntl
import os
from pathlib import Path

from vfagent.errors import VfagentError, errno_text

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


def take_lock(folder: Path) -> int:
    """Returns the descriptor that holds the lock. Raises OSError; BlockingIOError where another agent has it."""
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)  # who could open it could hold the lock
    fd = os.open(folder, _FOLDER)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def hold(folder: Path) -> int:
    """For the service, as take_lock(). Raises VfagentError."""
    try:
        return take_lock(folder)
    except BlockingIOError:
        text = "the service: cannot run: another one is running"
        raise VfagentError(text, hint="systemctl status vfagent shows it") from None
    except OSError as error:
        hint = "run it as root" if isinstance(error, PermissionError) else None
        text = f"the service: cannot run: {folder}: {errno_text(error.errno or 0)}"
        raise VfagentError(text, hint=hint) from None


def is_locked(folder: Path) -> bool:
    """Raises PermissionError: only root can open the folder."""
    try:
        fd = os.open(folder, _FOLDER)
    except PermissionError:
        raise
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
