# SPDX-License-Identifier: Apache-2.0
"""What a guest keeps over its starts and the host's boots: its machine type, and its UEFI variables."""

import json
import os
import re
from pathlib import Path

from vfagent.kernel.rooted import read_regular
from vfagent.store.state import write_json

_FOLDER = "var/lib/vfagent/guests"
_MACHINE = "[a-z0-9][a-z0-9.-]{0,63}"
_MOST = 1 << 16
_MOST_VARIABLES = 64 << 20


class GuestFiles:
    """Root's folder of one guest, which no other user can enter."""

    def __init__(self, root: Path, guest: str) -> None:
        self._root, self._guest = root, guest
        self._folder = root / _FOLDER / guest

    def machine(self) -> str | None:
        return known_machine(self._root, self._folder / "machine.json")

    def keep_machine(self, machine: str) -> None:
        self._make_folder()
        write_json(self._folder / "machine.json", machine)

    def variables(self, template: str) -> str:
        """The path of its variable store, which is copied from the template once: another template is another store.

        Its mode lets the guest's user write it, whose number is not known before the guest starts. Raises OSError.
        """
        path = self._folder / Path(template).name
        if not path.exists():
            data = read_regular(self._root, self._root / template.lstrip("/"), _MOST_VARIABLES)
            self._make_folder()
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                os.fchmod(fd, 0o666)
                file.flush()
                os.fsync(fd)
            os.replace(temporary, path)
        return f"/{_FOLDER}/{self._guest}/{path.name}"

    def _make_folder(self) -> None:
        """Closed to others: what the guest's user writes has a mode that lets any user write it."""
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        close_folder(self._folder)


def close_folder(path: Path) -> None:
    """To others than root, before systemd makes it open to them, and what it makes in it. Raises OSError."""
    path.mkdir(mode=0o700, exist_ok=True)
    path.chmod(0o700)


def known_machine(root: Path, path: Path) -> str | None:
    try:
        machine = json.loads(read_regular(root, path, _MOST))
    except (OSError, ValueError, RecursionError):
        return None
    return machine if isinstance(machine, str) and re.fullmatch(_MACHINE, machine) else None
