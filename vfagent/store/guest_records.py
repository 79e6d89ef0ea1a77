# SPDX-License-Identifier: Apache-2.0
"""What /run remembers of guests: which were started or stopped, which VF is whose, and whether KVM works.

A reboot forgets it, and is meant to: guests that were stopped by hand start again with the host.
"""

import json
import logging
import os
from pathlib import Path

from vfagent.frozen import frozen
from vfagent.kernel.protocols import Host
from vfagent.model.codec import decode, encode
from vfagent.model.guest_unit import UNIT_PREFIX, unit_name
from vfagent.model.pci import PciAddress
from vfagent.store.state import write_json

log = logging.getLogger(__name__)

VF_USERS = "run/vfagent/vf-users"
CGROUPS = "sys/fs/cgroup/machine.slice"
_MOST = 1 << 16


@frozen(slots=True)
class Record:
    """`rule` is the digest of the rule that this is about; another rule is a guest that is to start."""

    rule: str
    stopped: str | None = None  # why it stays stopped


class GuestRecords:
    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._guests = root / "run/vfagent/guests"
        self._kvm = root / "run/vfagent/kvm.json"

    def all(self) -> dict[str, Record]:
        names = [name.removesuffix(".json") for name in _names(self._guests)]
        return {name: record for name in names if (record := self.get(name))}

    def get(self, name: str) -> Record | None:
        try:
            return decode(Record, json.loads((self._guests / f"{name}.json").read_bytes()[:_MOST]))
        except (OSError, ValueError):
            return None  # a guest too many is started rather than none

    def keep(self, name: str, record: Record) -> None:
        write_json(self._guests / f"{name}.json", encode(record))

    def forget(self, name: str) -> None:
        try:
            (self._guests / f"{name}.json").unlink(missing_ok=True)
        except OSError as error:
            log.warning("guest %s: cannot forget what was done with it: %s", name, error.strerror)

    def set_vf_users(self, held: dict[PciAddress, str]) -> None:
        """One file for each VF that is a guest's, so that whoever looks at a VF can name the guest."""
        folder = self._root / VF_USERS
        for name in _names(folder):
            if name not in held:
                (folder / name).unlink(missing_ok=True)
        for address, guest in held.items():
            write_json(folder / address, guest)

    def kvm(self) -> bool | None:
        """Whether KVM was seen to work since the host booted; None while that was not tried."""
        try:
            found = json.loads(self._kvm.read_bytes()[:_MOST])
        except (OSError, ValueError):
            return None
        return found if isinstance(found, bool) else None

    def keep_kvm(self, *, works: bool) -> None:
        write_json(self._kvm, works)


def guest_cgroup(name: str) -> str:
    return f"{CGROUPS}/{unit_name(name)}"


def any_cgroup(host: Host) -> bool:
    """Whether a guest runs, by its cgroup: of one in another slice only systemd can tell."""
    return any(name.startswith(UNIT_PREFIX) for name in host.sysfs.names(CGROUPS))


def _names(folder: Path) -> list[str]:
    try:
        return [name for name in sorted(os.listdir(folder)) if not name.startswith(".")]
    except OSError:
        return []
