# SPDX-License-Identifier: Apache-2.0
"""What vfagent keeps on disk: each PF's baseline and driver state, and which PFs are released.

Files are written to a temporary file, then renamed. An unreadable file counts as absent: the kernel has the state,
these files only save attempts or say what to restore.
"""

import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from vfagent.frozen import frozen
from vfagent.kernel.rooted import read_regular
from vfagent.model.codec import decode, encode
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Pf
from vfagent.model.pci import PciAddress
from vfagent.systemd.log import for_pf

log = logging.getLogger(__name__)
T = TypeVar("T")

_MOST = 4 * 1024 * 1024
_LOCK_POLL_S = 0.1  # flock() with a deadline has no other form


@frozen(slots=True)
class Baseline:
    """A PF as it was before vfagent changed it."""

    pf: Pf

    def is_of(self, pf: Pf) -> bool:
        """Whether `pf` is the same card, not another one in its slot."""
        was = self.pf
        same_mac = (was.netdev.permanent_mac if was.netdev else None) in _macs(pf)
        return same_mac and (was.vendor, was.device) == (pf.vendor, pf.device)

    def port(self, pf: Pf) -> int | None:
        """Which of the PF's netdevs it is of."""
        was = self.pf.netdev
        same = (netdev for netdev in pf.netdevs if was and netdev.permanent_mac == was.permanent_mac)
        return next((netdev.ifindex for netdev in same), None)


class State:
    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self.run = root / "run/vfagent"
        self.lib = root / "var/lib/vfagent"

    def _baseline_path(self, address: PciAddress) -> Path:
        return self.lib / "baseline" / f"{address}.json"

    def baseline(self, address: PciAddress) -> Baseline | None:
        return _load(self._root, address, self._baseline_path(address), Baseline)

    def keep_baseline(self, pf: Pf) -> None:
        """Store the PF as it is now, unless a baseline of the same card is stored already. Raises OSError."""
        if not _is_of_card(_read(self._root, pf.address, self._baseline_path(pf.address)), pf):
            write_json(self._baseline_path(pf.address), encode(Baseline(pf)))

    def changed(self, address: PciAddress) -> bool:
        """Whether vfagent has changed the PF in this slot: the baseline is stored before the first step."""
        return os.path.lexists(self._baseline_path(address))

    def has_baseline_of_another(self, pf: Pf) -> bool:
        """Whether the baseline is that of a card which was in the PF's slot before."""
        stored = _read(self._root, pf.address, self._baseline_path(pf.address))
        return isinstance(stored, dict) and not _is_of_card(stored, pf)

    def forget_baseline(self, address: PciAddress) -> None:
        self._baseline_path(address).unlink(missing_ok=True)

    def driver_state(self, address: PciAddress) -> DriverState:
        stored = _load(self._root, address, self._driver_state_path(address), DriverState) or DriverState()
        return replace(stored, changed=self.changed(address))

    def keep_driver_state(self, address: PciAddress, driver_state: DriverState) -> None:
        write_json(self._driver_state_path(address), encode(driver_state), for_all=True)

    def _driver_state_path(self, address: PciAddress) -> Path:
        return self.run / "driver-state" / f"{address}.json"

    def released(self) -> frozenset[str]:
        """Released PFs, which are not managed until the next boot, reload or `vfagent apply`."""
        try:
            return frozenset(os.listdir(self.run / "released"))
        except OSError:
            return frozenset()

    def release(self, address: PciAddress) -> None:
        write_json(self.run / "released" / address, {}, for_all=True)

    @contextmanager
    def to_itself(self, address: PciAddress, patience_s: float) -> Iterator[None]:
        """A PF's lock: `vfagent release` waits for the running reconcile, and a reconcile for `vfagent release`.

        After `patience_s` it goes on without the lock, as the other may hang in the kernel. The same where the lock's
        file cannot be created.
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


def write_json(path: Path, data: object, *, durable: bool = False, for_all: bool = False) -> None:
    """As `write_text`, of JSON."""
    text = json.dumps(data, separators=(",", ":"))  # dump() has the slow encoder
    write_text(path, text, durable=durable, for_all=for_all)


def write_text(path: Path, text: str, *, durable: bool = False, for_all: bool = False) -> None:
    """Atomic: readers see the old text or the new one; with `durable` also after a power cut. Raises OSError.

    `for_all`: every user may read it, whatever the umask.
    """
    if not path.parent.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        if for_all:
            path.parent.chmod(0o755)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        with os.fdopen(fd, "w") as file:
            if for_all:
                os.fchmod(fd, 0o644)
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


def remove_durably(path: Path) -> None:
    """Gone also after a power cut; nothing where it is not there. Raises OSError."""
    try:
        path.unlink()
    except FileNotFoundError:
        return
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _macs(pf: Pf) -> set[str | None]:
    """Of all its netdevs: its rule may have named another one when the baseline was stored."""
    return {netdev.permanent_mac for netdev in pf.netdevs} or {None}


def _is_of_card(stored: object, pf: Pf) -> bool:
    """As `Baseline.is_of`, on undecoded JSON, which is faster: each card's first change waits for it."""
    match stored:
        case {"pf": {"vendor": pf.vendor, "device": pf.device, "netdev": {"permanent_mac": mac}}}:
            return bool(pf.netdev) and mac in _macs(pf)
        case {"pf": {"vendor": pf.vendor, "device": pf.device, "netdev": None}}:
            return pf.netdev is None
        case _:
            return False


def _load(root: Path, address: PciAddress, path: Path, kind: type[T]) -> T | None:
    stored = _read(root, address, path)
    try:
        return None if stored is None else decode(kind, stored)
    except (ValueError, RecursionError) as error:
        _log_ignored(address, path, error)
        return None


def _read(root: Path, address: PciAddress, path: Path) -> object:
    try:
        return json.loads(read_regular(root, path, _MOST)) or []  # "null" is a damaged file, not an absent one
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        _log_ignored(address, path, error)
        return None


def _log_ignored(address: PciAddress, path: Path, error: Exception) -> None:
    for_pf(log, address).warning("ignoring the unusable state file %s: %s", path, error)
