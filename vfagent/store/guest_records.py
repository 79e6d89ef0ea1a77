# SPDX-License-Identifier: Apache-2.0
"""Records in /run: which guests were started or stopped, which guest uses a VF, and whether KVM works.

They end with a reboot on purpose: guests that were stopped by hand start again with the host.
"""

import json
import logging
import os
from pathlib import Path

from vfagent.frozen import frozen
from vfagent.kernel.protocols import Host
from vfagent.kernel.rooted import read_regular
from vfagent.model.codec import decode, encode
from vfagent.model.guest_unit import UNIT_PREFIX, unit_name
from vfagent.model.pci import PciAddress
from vfagent.store.state import write_json
from vfagent.systemd.log import for_guest

log = logging.getLogger(__name__)

VF_USERS = "run/vfagent/vf-users"
CGROUPS = "sys/fs/cgroup/machine.slice"
_MOST = 1 << 16


@frozen(slots=True)
class Record:
    """`rule` is the digest of the guest's rule: with another rule the guest is to start."""

    rule: str
    stopped: str | None = None  # why the guest stays stopped


class GuestRecords:
    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._guests = root / "run/vfagent/guests"
        self._kvm = root / "run/vfagent/kvm.json"
        self._vf_users: dict[PciAddress, str] = {}  # as they were last stored

    def all(self) -> dict[str, Record]:
        names = [name.removesuffix(".json") for name in _names(self._guests)]
        return {name: record for name in names if (record := self.get(name))}

    def get(self, name: str) -> Record | None:
        try:
            return decode(Record, json.loads(read_regular(self._root, self._guests / f"{name}.json", _MOST)))
        except (OSError, ValueError, RecursionError):
            return None  # a guest that was stopped by hand starts; the other way round one would not

    def keep(self, name: str, record: Record) -> None:
        write_json(self._guests / f"{name}.json", encode(record), for_all=True)

    def forget(self, name: str) -> None:
        try:
            (self._guests / f"{name}.json").unlink(missing_ok=True)
        except OSError as error:
            for_guest(log, name).warning("cannot remove its record: %s", error.strerror)

    def set_vf_users(self, users: dict[PciAddress, str]) -> None:
        """Store the guest that uses each VF, one file for each VF: other processes name the guest by it."""
        if users == self._vf_users:
            return
        folder = self._root / VF_USERS
        for name in _names(folder):
            if name not in users:
                (folder / name).unlink(missing_ok=True)
        for address, guest in users.items():
            write_json(folder / address, guest, for_all=True)
        self._vf_users = users

    def kvm(self) -> bool | None:
        """Whether KVM works, as tried since the host booted; None while it was not tried."""
        try:
            works = json.loads(read_regular(self._root, self._kvm, _MOST))
        except (OSError, ValueError, RecursionError):
            return None
        return works if isinstance(works, bool) else None

    def keep_kvm(self, *, works: bool) -> None:
        write_json(self._kvm, works, for_all=True)


def guest_cgroup(name: str) -> str:
    return f"{CGROUPS}/{unit_name(name)}"


def any_cgroup(host: Host) -> bool:
    """Whether a guest runs, by its cgroup. Only systemd knows those in another slice."""
    return any(name.startswith(UNIT_PREFIX) for name in host.sysfs.names(CGROUPS))


def _names(folder: Path) -> list[str]:
    try:
        return [name for name in sorted(os.listdir(folder)) if not name.startswith(".")]
    except OSError:
        return []
