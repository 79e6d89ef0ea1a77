# SPDX-License-Identifier: Apache-2.0
"""VFIO groups are open to guests as long as systemd has the guest's unit, and taken back afterwards."""

import contextlib
import logging
from collections.abc import Iterable
from pathlib import Path

from vfagent.errors import VfagentError
from vfagent.guests.state import GuestState, Job
from vfagent.kernel.protocols import Host
from vfagent.kernel.vfio_group import close_to_kvm, node_exists, open_to_kvm, opened_to_kvm
from vfagent.model.guest_unit import GuestVf
from vfagent.model.pci import PciAddress
from vfagent.reconcile.observe import DEVICES

log = logging.getLogger(__name__)


def open_groups(vfs: Iterable[GuestVf], root: Path) -> None:
    """Raises VfagentError. A node that the service does not see is left to QEMU, which says that it cannot open it."""
    for group in {vf.iommu_group for vf in vfs if vf.iommu_group is not None}:
        if not open_to_kvm(group, root) and node_exists(group, root):
            hint = "a udev rule of this host sets its mode or its group: it must be root's alone, or open to kvm"
            raise VfagentError(f"cannot open /dev/vfio/{group} to group kvm", hint=hint)


def close_groups(guests: Iterable[GuestState], host: Host, root: Path) -> None:
    """Not while a failed unit is still loaded: `systemctl start` starts it again."""
    opened = opened_to_kvm(root)
    if not opened:
        return
    for group in opened - {_group(address, host) for guest in guests for address in _vfs(guest)}:
        try:
            close_to_kvm(group, root)
        except OSError as error:
            log.warning("guests: cannot close /dev/vfio/%d to group kvm: %s", group, error.strerror)


def _vfs(guest: GuestState) -> Iterable[PciAddress]:
    if guest.unit is not None:
        yield from guest.unit.vfs
    if guest.job is Job.START and guest.placement:
        yield from (vf.address for vf in guest.placement.vfs)


def _group(address: PciAddress, host: Host) -> int | None:
    with contextlib.suppress(ValueError):
        return int(host.sysfs.link(f"{DEVICES}/{address}/iommu_group") or "")
    return None
