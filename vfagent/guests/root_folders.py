# SPDX-License-Identifier: Apache-2.0
"""The folders that are guests' roots: empty, but for the mount points that systemd makes in them."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from vfagent.errors import VfagentError
from vfagent.guests.spec.qemu import ROOTS, Guest


def make_root_folder(root: Path, guest: Guest) -> None:
    """Raises VfagentError."""
    folder = root / guest.root.lstrip("/")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)  # its user is not root; the folder above is closed to all others
    except OSError as error:
        raise VfagentError(f"cannot make its root folder: {folder}: {error.strerror}") from error


def forget_root_folders(root: Path, keep: Iterable[str]) -> None:
    """Remove those of all other guests. Raises OSError."""
    folder = root / ROOTS.lstrip("/")
    for name in set(os.listdir(folder) if folder.exists() else ()) - set(keep):
        shutil.rmtree(folder / name)
