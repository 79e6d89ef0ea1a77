# SPDX-License-Identifier: Apache-2.0
"""A host with the adapters of the kernel, for tests in a network namespace."""

from pathlib import Path

from vfagent.kernel.device_users import KernelDeviceUsers
from vfagent.kernel.devlink import KernelDevlink
from vfagent.kernel.host_network import KernelNetwork
from vfagent.kernel.protocols import Host
from vfagent.kernel.routes import KernelRoutes
from vfagent.kernel.rtnl import KernelRtnl
from vfagent.kernel.sysfs import RootedSysfs
from vfagent.kernel.udev import NoUdevDatabase
from vfagent.store.move_journal import MoveJournal


def host_of(folder: Path) -> Host:
    """`folder`: for the journal of moved addresses."""
    network, routes, users = KernelNetwork(), KernelRoutes(), KernelDeviceUsers()
    rtnl, devlink, udev = KernelRtnl(), KernelDevlink(), NoUdevDatabase()
    return Host(RootedSysfs(), rtnl, devlink, udev, network, routes, MoveJournal(folder), users)
