# SPDX-License-Identifier: Apache-2.0
"""The host's name and machine-id, and the bundle of adapters for a root."""

import os
from pathlib import Path

from vfagent.kernel.device_users import KernelDeviceUsers
from vfagent.kernel.devlink import KernelDevlink
from vfagent.kernel.host_network import KernelNetwork
from vfagent.kernel.offline_tree import SysfsDevlink, SysfsNetwork, SysfsRtnl
from vfagent.kernel.protocols import Host
from vfagent.kernel.routes import KernelRoutes
from vfagent.kernel.rtnl import KernelRtnl
from vfagent.kernel.sysfs import RootedSysfs
from vfagent.kernel.udev import KernelUdevDatabase, NoUdevDatabase
from vfagent.model.numvfs_lock import NumvfsLock, kernel_version, numvfs_lock
from vfagent.policy.match import HostIdentity
from vfagent.store.host_files import HostFiles
from vfagent.store.interface_owners import InterfaceOwners
from vfagent.store.move_journal import MoveJournal
from vfagent.store.numvfs_token import NumvfsTokenFile


def read_identity(root: Path = Path("/")) -> HostIdentity:
    """The machine-id(5) is "" where there is none; generated MACs then depend on the PF alone."""
    machine_id = (HostFiles(root).read("etc/machine-id") or "").strip()
    return HostIdentity(hostname=_hostname(root), machine_id=machine_id)


def _hostname(root: Path) -> str:
    """The running host's name, or what hostname(5) of another tree says; "" where it has none."""
    if root == Path("/"):
        return os.uname().nodename
    lines = (HostFiles(root).read("etc/hostname") or "").splitlines()
    return next((line.strip() for line in lines if line.strip() and not line.startswith("#")), "")


def open_host(root: Path = Path("/")) -> Host:
    """The running kernel's adapters; for another root, adapters that read its files."""
    sysfs, moves, users = RootedSysfs(root), MoveJournal(root), KernelDeviceUsers(root)
    owners = InterfaceOwners(root)
    if root != Path("/"):
        network = SysfsNetwork(sysfs)
        rtnl = SysfsRtnl(sysfs)
        from vfagent.store.recorded_host import replayed  # late: 1 ms, which this host's own adapters do not need

        copied = Host(sysfs, rtnl, SysfsDevlink(sysfs), NoUdevDatabase(), network, network, moves, users, owners=owners)
        return replayed(copied, root)
    udev, kernel = KernelUdevDatabase(), os.uname()
    lock = numvfs_lock(kernel_version(kernel.release, kernel.version))
    numvfs = None if lock is NumvfsLock.NONE else NumvfsTokenFile(root)
    routes, links = KernelRoutes(), KernelNetwork()
    return Host(sysfs, KernelRtnl(), KernelDevlink(), udev, links, routes, moves, users, numvfs, owners=owners)
