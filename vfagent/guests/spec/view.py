# SPDX-License-Identifier: Apache-2.0
"""What a guest's unit sees of the host's files: a root of its own, which has only this. Pure."""

from collections.abc import Iterable, Iterator

from vfagent.guests.spec.boot import IPXE_IMAGES, Loader
from vfagent.guests.spec.qemu import Guest
from vfagent.guests.spec.untrusted import NO_BUS
from vfagent.guests.spec.vnc import needs_network
from vfagent.model.guest_unit import Property

# QEMU, its firmware, the shell, and the helpers with their Python. In each case the links of a merged /usr, too.
_SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
# Not the host's shared memory; nor the journal, which would take any priority from it (257 shows it, BindLogSockets=).
_HIDDEN = ("-+/dev/shm", "-+/dev/hugepages", "-+/run/systemd/journal")  # `+`: below RootDirectory=
_MS_REC = 0x4000  # linux/mount.h


def view(guest: Guest) -> Iterator[Property]:
    """systemd makes the mount points in the root, which is an empty folder of the guest's own."""
    yield Property("RootDirectory", "s", guest.root)
    yield Property("BindReadOnlyPaths", "a(ssbt)", _binds((*_SYSTEM, *guest.python, *_read(guest))))
    yield Property("BindPaths", "a(ssbt)", _binds((*devices(guest), *_written(guest))))
    # A name in /dev/disk/by-path has `:`, which ends a path of BindPaths= when systemd reads the unit's file again.
    # A guest with such a disk sees all of /dev; DevicePolicy= lets it open its own devices alone.
    yield Property("PrivateDevices", "b", value=not any(":" in disk.path for disk in guest.rule.disk))
    yield Property(NO_BUS.name, NO_BUS.signature, [*_paths(NO_BUS), *_HIDDEN])


def devices(guest: Guest) -> Iterator[str]:
    """The nodes that it opens, but for those of its disks."""
    yield "/dev/vfio/vfio"
    yield from (f"/dev/vfio/{vf.iommu_group}" for vf in guest.vfs if vf.iommu_group is not None)
    if guest.kvm:
        yield "/dev/kvm"


def _read(guest: Guest) -> Iterator[str]:
    """On Debian 12, iPXE's image is a link that leaves /usr. The screen's address may be `localhost`."""
    if needs_network(guest.rule):
        yield from ("/etc/hosts", "/etc/nsswitch.conf")
    if guest.boot.loader is Loader.IMAGE:
        yield IPXE_IMAGES[guest.rule.firmware]
    if guest.firmware:
        yield guest.firmware.code
    if kernel := guest.boot.kernel:
        yield from (path for path in (kernel.image, kernel.initrd) if path)
    for disk in guest.rule.disk:
        yield from disk.backing
        if disk.readonly:
            yield disk.path


def _written(guest: Guest) -> Iterator[str]:
    yield from (disk.path for disk in guest.rule.disk if not disk.readonly)
    if guest.firmware:
        yield guest.variables
    if guest.rule.tpm:
        yield guest.tpm_folder


def read_or_written(guest: Guest) -> list[str]:
    """The files and devices that QEMU opens, but for those of its VFs and of the system."""
    own = (path for path in (*_read(guest), *_written(guest)) if not path.startswith("/etc/"))
    return list(dict.fromkeys(own))


def _binds(paths: Iterable[str]) -> list[tuple[str, str, bool, int]]:
    """A path that does not exist is left out: then QEMU says which, and for what."""
    return [(path, path, True, _MS_REC) for path in dict.fromkeys(paths) if ":" not in path]


def _paths(item: Property) -> list[str]:
    assert isinstance(item.value, list)
    return item.value
