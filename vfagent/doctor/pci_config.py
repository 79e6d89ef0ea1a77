# SPDX-License-Identifier: Apache-2.0
"""The SR-IOV capability in a function's configuration space, for cards that are no PF in the kernel's view."""

from vfagent.model.pci import PciAddress
from vfagent.store.host_files import HostFiles

_EXTENDED, _WHOLE = 0x100, 4096
_SRIOV, _TOTAL_VFS = 0x0010, 0x0E


def sriov_capability(files: HostFiles, address: PciAddress) -> tuple[int | None, bool]:
    """TotalVFs, None without the capability; and whether the extended space could be read (only root can)."""
    config = files.read_bytes(f"sys/bus/pci/devices/{address}/config", _WHOLE) or b""
    return total_vfs(config), len(config) > _EXTENDED


def total_vfs(config: bytes) -> int | None:
    """Follows the list of extended capabilities (PCIe Base Specification 7.9.1)."""
    at, seen = _EXTENDED, set[int]()
    while _EXTENDED <= at <= len(config) - 4 and at not in seen:
        seen.add(at)
        header = int.from_bytes(config[at : at + 4], "little")
        if header & 0xFFFF == _SRIOV:
            return int.from_bytes(config[at + _TOTAL_VFS : at + _TOTAL_VFS + 2], "little")
        at = header >> 20
    return None
