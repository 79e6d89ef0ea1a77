# SPDX-License-Identifier: Apache-2.0
"""Built ROMs, and copies of those that a policy names. The files are root's; guests get them as credentials."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from vfagent.errors import VfagentError
from vfagent.guests.spec.rom import SCRIPT, RomFacts, digest, rom_defect
from vfagent.model.codec import decode, encode
from vfagent.policy.strings import ROM_FOLDERS
from vfagent.store.state import write_json
from vfagent.store.trusted_files import read_trusted, refusal

_MOST_BYTES = 16 << 20
_MOST_ROMS = 64
_END_OF_LOG = 64 << 10
_PURPOSE = "the guest's ROM"
_PLACE = "var/lib/vfagent/rom-cache"


class RomStore:
    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self.folder = root / _PLACE
        # Written by a build: the ROM and its output.
        self.made, self.log = self.folder / "made", self.folder / "build.log"

    def path(self, key: str) -> Path:
        return self.folder / f"{key}.rom"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One build at a time, by the service or by `vfagent rom`."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self.folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def roms(self) -> list[RomFacts]:
        """The built ROMs, newest first."""
        roms = filter(None, map(self._facts, self.folder.glob("*.json")))
        return sorted(roms, key=lambda rom: rom.built_at, reverse=True)

    def _facts(self, path: Path) -> RomFacts | None:
        try:
            facts = decode(RomFacts, json.loads(path.read_bytes()))
        except (OSError, ValueError, RecursionError):
            return None
        return facts if self.path(facts.key).exists() else None

    def find(self, hardware: str, firmware: str, script: str, tree: str | None) -> Path | None:
        """`tree`: digest of the source tree that it was built from; with None the newest ROM is taken."""
        for rom in self.roms():
            if (rom.hardware, rom.firmware, rom.script) == (hardware, firmware, script) and tree in (None, rom.tree):
                return self.path(rom.key)
        return None

    def keep(self, facts: RomFacts) -> Path:
        """Store what a build has made. It is the newest, also where the clock was set back since the last build."""
        facts = replace(facts, built_at=max((facts.built_at, *(rom.built_at + 1 for rom in self.roms()))))
        with open(self.made, "rb") as file:
            data = file.read(_MOST_BYTES)
        if defect := rom_defect(data, facts.hardware, facts.firmware):
            raise VfagentError(f"ROM for {facts.hardware}: the built file {defect}", hint=f"see {self.log}")
        os.replace(self.made, self.path(facts.key))
        write_json(self.path(facts.key).with_suffix(".json"), encode(facts))
        self._forget_old()
        return self.path(facts.key)

    def _forget_old(self) -> None:
        for facts in self.roms()[_MOST_ROMS:]:
            self.path(facts.key).unlink(missing_ok=True)
            self.path(facts.key).with_suffix(".json").unlink(missing_ok=True)

    def copy_of(self, file: str, hardware: str, firmware: str) -> Path:
        """A copy of a ROM that the policy names, so that the guest gets the same bytes that were checked."""
        data = _read(self._root, file)
        if defect := rom_defect(data, hardware, firmware):
            raise VfagentError(
                f"{file}: cannot use it as the guest's ROM: it {defect}", hint="its name is VENDORDEVICE.rom"
            )
        copy = self.folder / f"copy-{digest(data)}.rom"
        if not copy.exists():
            _write(copy, data)
        return copy

    def store_script(self, script: bytes) -> str:
        """The file with the script of the next build, for LoadCredential=."""
        _write(self.folder / SCRIPT, script)
        return str(self.folder / SCRIPT)

    def progress(self) -> str:
        """How much the running build has printed. Not what: a source tree is code, and prints what it wants."""
        try:
            size = os.stat(self.log).st_size
        except OSError:
            size = 0
        return f"{size >> 10} KiB of output"

    def failure(self) -> str:
        """Why a build failed, on one line: the compiler's errors, else the last lines of the output."""
        try:
            with open(self.log, "rb") as file:
                file.seek(max(os.fstat(file.fileno()).st_size - _END_OF_LOG, 0))
                text = file.read(_END_OF_LOG).decode(errors="replace")
        except OSError:
            text = ""
        lines = ["".join(char for char in line if char.isprintable()).strip()[:300] for line in text.splitlines()]
        lines = [line for line in lines if line and not line.startswith(("make", "[BUILD]"))]
        errors = [line for line in lines if "error" in line.lower()]
        return " | ".join(errors[:3] or lines[-3:]) or "make printed nothing"


def _read(root: Path, file: str) -> bytes:
    """As every file that a policy names, and from a few folders only."""
    parent = os.path.realpath((root / file.lstrip("/")).parent)
    folders = [f"{os.path.realpath(root / folder.strip('/'))}/" for folder in ROM_FOLDERS]
    if os.path.exists(parent) and not any(f"{parent}/".startswith(folder) for folder in folders):
        raise refusal(file, _PURPOSE, f"it lies in {parent}, which is not below {', '.join(ROM_FOLDERS)}")
    return read_trusted(root, file, _PURPOSE, _MOST_BYTES)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
    os.replace(temporary, path)
