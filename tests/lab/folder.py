# SPDX-License-Identifier: Apache-2.0
"""A VM's folder: removed with the VM, or by the next VM if the process was killed."""

import fcntl
import shutil
import tempfile
from pathlib import Path
from typing import IO

PREFIX = "vfagent-vm-"


class Folder:
    """Has a lock that ends with this process."""

    def __init__(self) -> None:
        _sweep()
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock: IO[str] = (self.path / "lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def _sweep() -> None:
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if _abandoned(path / "lock"):
            shutil.rmtree(path, ignore_errors=True)


def _abandoned(lock: Path) -> bool:
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
