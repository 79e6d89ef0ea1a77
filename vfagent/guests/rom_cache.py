# SPDX-License-Identifier: Apache-2.0
"""ROMs that were built, and copies of those that users named: root's own files, which guests get as credentials."""

import fcntl
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from vfagent.errors import VfagentError
from vfagent.guests.spec.rom import RomFacts, digest, rom_defect
from vfagent.model.codec import decode, encode
from vfagent.policy.strings import ROM_FOLDERS
from vfagent.store.state import write_json

_MOST_BYTES = 16 << 20
_MOST_ROMS = 64
_PLACE = "var/lib/vfagent/rom-cache"


class RomStore:
    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self.folder = root / _PLACE
        # Where a build leaves what it made, and what it said.
        self.made, self.log = self.folder / "made", self.folder / "build.log"

    def path(self, key: str) -> Path:
        return self.folder / f"{key}.rom"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One build at a time, whoever asks for it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self.folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def roms(self) -> list[RomFacts]:
        """Those that were built, newest first."""
        found = (self._facts(path) for path in self.folder.glob("*.json"))
        return sorted((one for one in found if one), key=lambda one: one.built_at, reverse=True)

    def _facts(self, path: Path) -> RomFacts | None:
        try:
            facts = decode(RomFacts, json.loads(path.read_bytes()))
        except (OSError, ValueError):
            return None
        return facts if self.path(facts.key).exists() else None

    def find(self, hardware: str, firmware: str, script: str, tree: str | None) -> Path | None:
        """`tree`: digest of the source it must be of; None takes the newest."""
        wanted = (hardware, firmware, script)
        return next(
            (
                self.path(one.key)
                for one in self.roms()
                if (one.hardware, one.firmware, one.script) == wanted and tree in (None, one.tree)
            ),
            None,
        )

    def keep(self, facts: RomFacts) -> Path:
        """Take in what a build has made. It is the newest, also where the clock has gone back since the last one."""
        facts = replace(facts, built_at=max((facts.built_at, *(one.built_at + 1 for one in self.roms()))))
        data = self.made.read_bytes()
        if defect := rom_defect(data, facts.hardware, facts.firmware):
            raise VfagentError(f"ROM for {facts.hardware}: what was built {defect}", hint=f"see {self.log}")
        os.replace(self.made, self.path(facts.key))
        write_json(self.path(facts.key).with_suffix(".json"), encode(facts))
        self._forget_old()
        return self.path(facts.key)

    def _forget_old(self) -> None:
        for facts in self.roms()[_MOST_ROMS:]:
            self.path(facts.key).unlink(missing_ok=True)
            self.path(facts.key).with_suffix(".json").unlink(missing_ok=True)

    def copy_of(self, file: str, hardware: str, firmware: str) -> Path:
        """A copy of a ROM that the policy names, so that what was looked at is what the guest gets."""
        data = _read(self._root, file)
        if defect := rom_defect(data, hardware, firmware):
            raise VfagentError(f"{file}: cannot be the guest's ROM: it {defect}", hint="its name is VENDORDEVICE.rom")
        copy = self.folder / f"copy-{digest(data)}.rom"
        if not copy.exists():
            _write(copy, data)
        return copy

    def progress(self) -> int:
        """How many steps of make's the build that runs has done: iPXE's makefile writes a line for each."""
        try:
            return self.log.read_bytes().count(b"\n  [")
        except OSError:
            return 0

    def failure(self) -> str:
        """Why a build failed, on one line: what the compiler calls an error, else what was said last."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        said = ["".join(char for char in line if char.isprintable()).strip()[:300] for line in lines]
        said = [line for line in said if line and not line.startswith(("make", "[BUILD]"))]
        errors = [line for line in said if "error" in line.lower()]
        return " | ".join(errors[:3] or said[-3:]) or "make said nothing"


def _read(root: Path, file: str) -> bytes:
    """Opened once, never through a link, and from where only root writes."""
    try:
        parent = os.path.realpath((root / file.lstrip("/")).parent)
        fd = os.open(f"{parent}/{os.path.basename(file)}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        why = "it is a symbolic link" if os.path.islink(root / file.lstrip("/")) else error.strerror
        raise VfagentError(f"{file}: cannot be the guest's ROM: {why}") from error
    with os.fdopen(fd, "rb") as opened:
        if why := _distrust(os.fstat(fd), parent, root):
            raise VfagentError(f"{file}: cannot be the guest's ROM: {why}")
        return opened.read(_MOST_BYTES)


def _distrust(facts: os.stat_result, parent: str, root: Path) -> str | None:
    inside = any(f"{parent}/".startswith(f"{os.path.realpath(root / folder.strip('/'))}/") for folder in ROM_FOLDERS)
    if not inside:
        return f"it lies in {parent}, which is not below {', '.join(ROM_FOLDERS)}"
    if not stat.S_ISREG(facts.st_mode) or facts.st_size > _MOST_BYTES:
        return "it is no file of a ROM's size"
    others = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return "others than root can write it" if others or facts.st_uid not in (0, os.geteuid()) else None


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
    os.replace(temporary, path)
