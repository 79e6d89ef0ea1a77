# SPDX-License-Identifier: Apache-2.0
"""What vfagent keeps on disk: what each PF was before it, what was learnt of it, and which were given back.

Written whole to a temporary file, then renamed. A file that cannot be read counts as absent: the kernel holds
the truth, and these only spare attempts or tell how to go back.
"""

import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from vfagent.frozen import frozen
from vfagent.model.codec import decode, encode
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Pf
from vfagent.model.pci import PciAddress

log = logging.getLogger(__name__)
T = TypeVar("T")

_MOST = 4 * 1024 * 1024
_LOCK_POLL_S = 0.1  # flock() with a deadline has no other form


@frozen(slots=True)
class Baseline:
    """A PF as it was before vfagent changed anything of it."""

    pf: Pf

    def is_of(self, pf: Pf) -> bool:
        """Whether this is the same card, not another one in its place."""
        mine, theirs = (one.netdev.permanent_mac if one.netdev else None for one in (self.pf, pf))
        return (self.pf.vendor, self.pf.device, mine) == (pf.vendor, pf.device, theirs)


class State:
    def __init__(self, root: Path = Path("/")) -> None:
        self.run = root / "run/vfagent"
        self.lib = root / "var/lib/vfagent"

    def _baseline_path(self, address: PciAddress) -> Path:
        return self.lib / "baseline" / f"{address}.json"

    def baseline(self, address: PciAddress) -> Baseline | None:
        return _load(self._baseline_path(address), Baseline)

    def keep_baseline(self, pf: Pf) -> None:
        """Store what the PF is now, unless that of the same card is stored already. Raises OSError."""
        if not _is_of_card(_read(self._baseline_path(pf.address)), pf):
            write_json(self._baseline_path(pf.address), encode(Baseline(pf)))

    def forget_baseline(self, address: PciAddress) -> None:
        self._baseline_path(address).unlink(missing_ok=True)

    def driver_state(self, address: PciAddress) -> DriverState:
        return _load(self.run / "driver-state" / f"{address}.json", DriverState) or DriverState()

    def keep_driver_state(self, address: PciAddress, driver_state: DriverState) -> None:
        write_json(self.run / "driver-state" / f"{address}.json", encode(driver_state))

    def released(self) -> frozenset[str]:
        """PFs that were given back: left alone until the next boot, start or `vfagent apply`."""
        try:
            return frozenset(os.listdir(self.run / "released"))
        except OSError:
            return frozenset()

    def release(self, address: PciAddress) -> None:
        write_json(self.run / "released" / address, {})

    @contextmanager
    def to_itself(self, address: PciAddress, patience_s: float) -> Iterator[None]:
        """While a PF is changed: `vfagent release` waits for the look that is under way, and a look for it.

        Not for ever: whoever has it may hang in the kernel. Where there is no room for a lock it goes without, too.
        """
        path = self.run / "changing" / address
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:
            yield
            return
        try:
            _lock(fd, time.monotonic() + patience_s)
            yield
        finally:
            os.close(fd)

    def take_back(self, address: str) -> None:
        (self.run / "released" / address).unlink(missing_ok=True)


def _lock(fd: int, end: float) -> None:
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError:
            if time.monotonic() > end:
                return
            time.sleep(_LOCK_POLL_S)


def write_json(path: Path, data: object, *, durable: bool = False) -> None:
    """As `write_text`."""
    write_text(path, json.dumps(data, separators=(",", ":")), durable=durable)  # dump() has the slow encoder


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Atomically: readers see the old text or the new one; `durable`, also after a power cut. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        with os.fdopen(fd, "w") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable:
            _sync_folder(path.parent)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _is_of_card(stored: object, pf: Pf) -> bool:
    """As `Baseline.is_of`, on what the file says: it is asked before each card's first change."""
    match stored:
        case {"pf": {"vendor": pf.vendor, "device": pf.device, "netdev": {"permanent_mac": mac}}}:
            return bool(pf.netdev) and mac == (pf.netdev.permanent_mac if pf.netdev else None)
        case {"pf": {"vendor": pf.vendor, "device": pf.device, "netdev": None}}:
            return pf.netdev is None
        case _:
            return False


def _load(path: Path, kind: type[T]) -> T | None:
    stored = _read(path)
    try:
        return None if stored is None else decode(kind, stored)
    except (ValueError, RecursionError) as error:
        _ignored(path, error)
        return None


def _read(path: Path) -> object:
    try:
        with open(path, "rb") as file:
            return json.loads(file.read(_MOST)) or []  # "null" is a file too, and not a good one
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        _ignored(path, error)
        return None


def _ignored(path: Path, error: Exception) -> None:
    log.warning("state file %s is not usable, going on without it: %s", path, error)
