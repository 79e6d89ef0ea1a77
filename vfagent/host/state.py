# SPDX-License-Identifier: Apache-2.0
"""What vfagent keeps on disk: what each PF was before it, what was learnt of it, and which were given back.

Written whole to a temporary file, then renamed. A file that cannot be read counts as absent: the kernel holds
the truth, and these only spare attempts or tell how to go back.
"""

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vfagent.model.codec import decode, encode
from vfagent.model.inventory import Pf
from vfagent.model.memory import PfMemory
from vfagent.model.pci import PciAddress

log = logging.getLogger(__name__)
T = TypeVar("T")

_MOST = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
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

    def baseline(self, address: PciAddress) -> Baseline | None:
        return _load(self.lib / "baseline" / f"{address}.json", Baseline)

    def keep_baseline(self, pf: Pf) -> None:
        """Store what the PF is now, unless that of the same card is stored already. Raises OSError."""
        kept = self.baseline(pf.address)
        if kept is None or not kept.is_of(pf):
            write_json(self.lib / "baseline" / f"{pf.address}.json", encode(Baseline(pf)))

    def forget_baseline(self, address: PciAddress) -> None:
        (self.lib / "baseline" / f"{address}.json").unlink(missing_ok=True)

    def memory(self, address: PciAddress) -> PfMemory:
        return _load(self.run / "memory" / f"{address}.json", PfMemory) or PfMemory()

    def keep_memory(self, address: PciAddress, memory: PfMemory) -> None:
        write_json(self.run / "memory" / f"{address}.json", encode(memory))

    def released(self) -> frozenset[str]:
        """PFs that were given back: left alone until the next boot, start or `vfagent apply`."""
        try:
            return frozenset(os.listdir(self.run / "released"))
        except OSError:
            return frozenset()

    def release(self, address: PciAddress) -> None:
        write_json(self.run / "released" / address, {})

    def take_back(self, address: str) -> None:
        (self.run / "released" / address).unlink(missing_ok=True)


def write_json(path: Path, data: object) -> None:
    """Atomically: readers see the old text or the new one. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        with os.fdopen(fd, "w") as file:
            json.dump(data, file, separators=(",", ":"))
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _load(path: Path, kind: type[T]) -> T | None:
    try:
        with open(path, "rb") as file:
            return decode(kind, json.loads(file.read(_MOST)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        log.warning("state file %s is not usable, going on without it: %s", path, error)
        return None
