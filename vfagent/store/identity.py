# SPDX-License-Identifier: Apache-2.0
"""The host's name and machine-id, and the bundle of adapters for a root."""

import os
from pathlib import Path

from vfagent.kernel.protocols import Host
from vfagent.kernel.sysfs import RootedSysfs
from vfagent.policy.match import HostIdentity
from vfagent.store.host_files import HostFiles
from vfagent.store.move_journal import MoveJournal


def read_identity(root: Path = Path("/")) -> HostIdentity:
    """machine-id(5): "" where there is none; stable MACs then hang on the PF alone."""
    try:
        machine_id = (root / "etc/machine-id").read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        machine_id = ""
    return HostIdentity(hostname=_hostname(root), machine_id=machine_id)


def _hostname(root: Path) -> str:
    """This host's own, or hostname(5) of another's tree, "" where that has none."""
    if root == Path("/"):
        return os.uname().nodename
    lines = (HostFiles(root).read("etc/hostname") or "").splitlines()
    return next((line.strip() for line in lines if line.strip() and not line.startswith("#")), "")


def open_host(root: Path = Path("/")) -> Host:
    """The running kernel's adapters, or, for another root, what its files tell."""
    from vfagent.kernel.udev import KernelUdevDatabase, NoUdevDatabase

    if root != Path("/"):
        from vfagent.kernel.offline_tree import NoDevlink, NoNetwork, SysfsRtnl

        sysfs = RootedSysfs(root)
        return Host(sysfs, SysfsRtnl(sysfs), NoDevlink(), NoUdevDatabase(), NoNetwork(), NoNetwork(), MoveJournal(root))
    from vfagent.kernel.devlink import KernelDevlink
    from vfagent.kernel.host_network import KernelNetwork
    from vfagent.kernel.routes import KernelRoutes
    from vfagent.kernel.rtnl import KernelRtnl

    sysfs, network = RootedSysfs(root), KernelNetwork()
    udev = KernelUdevDatabase()
    return Host(sysfs, KernelRtnl(), KernelDevlink(), udev, network, KernelRoutes(), MoveJournal(root))
