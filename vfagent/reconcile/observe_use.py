# SPDX-License-Identifier: Apache-2.0
"""Who uses a VF on a host driver, where its netdevs do not tell: what the driver made of it, and who holds that."""

import re
from collections.abc import Iterator, Mapping
from functools import cached_property

from vfagent.frozen import frozen
from vfagent.kernel.protocols import Host, RdmaDevice
from vfagent.model.evidence import IDLE_DRIVERS, UIO_DRIVERS, VDPA_DRIVERS, Evidence, Use, is_vfio
from vfagent.model.printable import printable

_BLOCK = "sys/class/block"
_VDPA = "sys/bus/vdpa/devices"
# File systems that name their devices in sysfs, and so show mounts of any mount namespace.
_FILE_SYSTEMS = ("ext4", "xfs", "f2fs")
_BTRFS = "sys/fs/btrfs"
# Others hold their devices, and sysfs does not show it.
_HIDDEN_USERS = frozenset({"zfs_member", "ceph_bluestore", "bcachefs", "oracleasm"})
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # a mediated device's name (mdev_create)
_NAMESPACE = re.compile(
    r"nvme(\d+)(?:c\d+)?(n\d+)"
)  # nvme0n1; nvme0c1n1 is one path to nvme0n1 (nvme_mpath_set_disk_name)
_AUXILIARY = re.compile(r"\w+\.vdpa\.\d+", re.IGNORECASE)  # pds_core.vDPA.0, between the VF and its vDPA device
_INFINIBAND = "0x0207"


@frozen(slots=True)
class Seen:
    """What a VF's folder has. `idle`: all that its driver makes of it was asked; without `uses` it is idle."""

    entries: frozenset[str] = frozenset()  # none where the VF has no driver, or a VFIO driver by its name
    vfio_dev: bool = False
    uses: tuple[Use, ...] = ()
    idle: bool = False


class UseObserver:
    """Observes the VFs of one PF. What is read of the host as a whole is read at most once."""

    def __init__(self, host: Host) -> None:
        self.host = host

    @cached_property
    def vdpa(self) -> frozenset[str]:
        return frozenset(self.host.sysfs.names(_VDPA))

    @cached_property
    def swaps(self) -> frozenset[str] | None:
        paths = self.host.device_users.swaps()
        return None if paths is None else frozenset(path.rpartition("/")[2] for path in paths)

    @cached_property
    def mounts(self) -> dict[str, str] | None:
        """Where each device is mounted, by its number and by its name."""
        mounts = self.host.device_users.mounts()
        if mounts is None:
            return None
        trusted = (mount for mount in mounts if mount.source.startswith("/dev/") and not mount.kind.startswith("fuse"))
        by_name = {mount.source.rpartition("/")[2]: mount.point for mount in trusted}
        return by_name | {mount.number: mount.point for mount in mounts if mount.number}

    @cached_property
    def rdma(self) -> Mapping[str, RdmaDevice] | None:
        return self.host.device_users.rdma_devices()

    @cached_property
    def file_systems(self) -> dict[str, str]:
        """The kind of file system that is mounted from each device, in any mount namespace."""
        sysfs = self.host.sysfs
        kinds = {name: kind for kind in _FILE_SYSTEMS for name in sysfs.names(f"sys/fs/{kind}")}
        members = (f"{_BTRFS}/{uuid}/devices" for uuid in sysfs.names(_BTRFS) if _UUID.fullmatch(uuid))
        return kinds | {name: "btrfs" for folder in members for name in sysfs.names(folder)}


def uses_of(observer: UseObserver, base: str, driver: str | None) -> Seen:
    if driver is None or is_vfio(driver):
        return Seen()
    entries = frozenset(observer.host.sysfs.names(base))
    if "vfio-dev" in entries:
        return Seen(entries, vfio_dev=True)
    if driver in IDLE_DRIVERS:
        return Seen(entries, idle=True)
    uses = (*_away(observer.host, base, entries), *_vdpa(observer, base, entries), *_mediated(entries))
    if driver in UIO_DRIVERS or "uio" in entries:
        return Seen(entries, uses=(*uses, *_uio(observer.host, base, driver)), idle=True)
    if driver in VDPA_DRIVERS:
        return Seen(entries, uses=uses, idle=True)
    disks = list(_disks(observer.host, base, entries))
    if disks:
        held = tuple(use for path in disks for use in _disk_uses(observer, path))
        return Seen(entries, uses=uses + held, idle=all(_can_be_asked(observer, path) for path in disks))
    rdma = observer.host.sysfs.names(f"{base}/infiniband") if "infiniband" in entries else []
    answers = [_rdma(observer, name) for name in rdma]
    uses += tuple(use for answer in answers for use in answer or ())
    # ib_ipoib makes the netdev of an InfiniBand function, if it is loaded.
    asked = None not in answers and "net" not in entries
    return Seen(entries, uses=uses, idle=asked and _is_infiniband(observer.host, base))


def _is_infiniband(host: Host, base: str) -> bool:
    return (host.sysfs.read(f"{base}/class") or "").startswith(_INFINIBAND)


def _away(host: Host, base: str, entries: frozenset[str]) -> Iterator[Use]:
    """The folder stays below the device when its only netdev leaves this network namespace (device_rename)."""
    buses = (f"{entry}/" for entry in entries if entry.startswith("virtio"))
    for below in ("", *buses):
        for folder, what in (("net", "netdev"), ("infiniband", "RDMA device")):
            path = f"{base}/{below}{folder}"
            there = folder in entries if not below else host.sysfs.exists(path)
            if there and not host.sysfs.names(path):
                yield Use(Evidence.AWAY, f"its {what} is in another network namespace")


def _vdpa(observer: UseObserver, base: str, entries: frozenset[str]) -> Iterator[Use]:
    """vDPA devices have any name that `vdpa dev add` gives them."""
    if observer.vdpa:
        below = (observer.host.sysfs.names(f"{base}/{entry}") for entry in entries if _AUXILIARY.fullmatch(entry))
        for name in sorted(observer.vdpa & entries.union(*below)):
            yield Use(Evidence.VDPA, f"vDPA device {name} is on it")


def _mediated(entries: frozenset[str]) -> Iterator[Use]:
    for name in sorted(filter(_UUID.fullmatch, entries)):
        yield Use(Evidence.MEDIATED, f"mediated device {name} is on it")


def _rdma(observer: UseObserver, name: str) -> tuple[Use, ...] | None:
    """None where the kernel does not say; so of a device that came after the others were read, or was renamed."""
    device = (observer.rdma or {}).get(name)
    if device is None:
        return None
    opened = (Use(Evidence.RDMA, f"a process uses its RDMA device {name}"),) if device.opened else ()
    services = observer.host.device_users.rdma_services(device.index)
    if services is None:
        return opened or None
    text = f"of the kernel uses its RDMA device {name}"
    return (*opened, *(Use(Evidence.RDMA, f"{service} {text}") for service in services))


def _uio(host: Host, base: str, driver: str) -> Iterator[Use]:
    """uio_open() takes a reference to the driver's module; only the module tells, for all of its devices."""
    devices = host.sysfs.names(f"{base}/uio")
    if devices and host.sysfs.read(f"sys/bus/pci/drivers/{driver}/module/refcnt") != "0":
        yield Use(Evidence.UIO, f"a process may have it open through {driver}, as {devices[0]}: its module is in use")


def _disks(host: Host, base: str, entries: frozenset[str]) -> Iterator[str]:
    """The folder of each block device that the VF's driver made."""
    if "nvme" in entries:
        for controller in host.sysfs.names(f"{base}/nvme"):
            for name in host.sysfs.names(f"{base}/nvme/{controller}"):
                if match := _NAMESPACE.fullmatch(name):
                    head = f"nvme{match[1]}{match[2]}"
                    yield f"{base}/nvme/{controller}/{name}" if head == name else f"{_BLOCK}/{head}"
    for bus in (entry for entry in entries if entry.startswith("virtio")):
        for name in host.sysfs.names(f"{base}/{bus}/block"):
            yield f"{base}/{bus}/block/{name}"


def _volumes(host: Host, disk: str) -> list[str]:
    """A disk and its partitions."""
    name = disk.rpartition("/")[2]
    return [disk, *(f"{disk}/{part}" for part in host.sysfs.names(disk) if part.startswith(name))]


def _can_be_asked(observer: UseObserver, disk: str) -> bool:
    if observer.mounts is None or observer.swaps is None or not observer.host.sysfs.exists(disk):
        return False
    names = (volume.rpartition("/")[2] for volume in _volumes(observer.host, disk))
    stored = (observer.host.udev.properties("block", name) for name in names)
    return not any((properties or {}).get("ID_FS_TYPE") in _HIDDEN_USERS for properties in stored)


def _disk_uses(observer: UseObserver, disk: str) -> Iterator[Use]:
    for volume in _volumes(observer.host, disk):
        name = volume.rpartition("/")[2]
        number = observer.host.sysfs.read(f"{volume}/dev") or ""
        mounts = observer.mounts or {}
        point = mounts.get(number) or mounts.get(name)
        if point:
            yield Use(Evidence.BLOCK, f"its file system is mounted at {printable(point)} ({name})")
        elif kind := observer.file_systems.get(name):
            yield Use(Evidence.BLOCK, f"its {kind} file system is mounted ({name})")
        if name in (observer.swaps or ()):
            yield Use(Evidence.BLOCK, f"its block device {name} is swap")
        for upper in observer.host.sysfs.names(f"{volume}/holders"):
            label = observer.host.sysfs.read(f"{_BLOCK}/{upper}/dm/name")
            yield Use(Evidence.BLOCK, f"its block device {name} is below {upper}{f' ({label})' if label else ''}")
