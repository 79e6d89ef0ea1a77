# SPDX-License-Identifier: Apache-2.0
"""A host without findings, as files. Each case changes one thing."""

import struct
from pathlib import Path

from tests.host.tree import Tree, put
from vfagent.guests.spec.boot import IPXE_IMAGES
from vfagent.guests.spec.qemu import QEMU

PF = "0000:01:00.0"
POLICY = """
[[pf]]
name = "storage"
match = { driver = "igb" }
vfs = 2

[[pf.vf]]
index = "*"
driver = "vfio-pci"
mac = "stable"

[[guest]]
name = "cirros"
vfs = ["storage:0"]
memory = "512M"

[guest.ipxe]
address = "192.168.10.10/24"
sanboot = "iscsi:192.168.10.1::::iqn.2016-01.com.example:cirros"
"""
FILES = {
    "proc/cmdline": "BOOT_IMAGE=/vmlinuz root=/dev/sda1 intel_iommu=on iommu=pt\n",
    "proc/cpuinfo": "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vmx sse2\n",
    "proc/interrupts": "  24:  0  0  IR-PCI-MSI-0000:00:1f.2  0-edge  ahci\n",
    "proc/version": "Linux version 6.12.48+deb13-amd64 (x) #1 SMP Debian 6.12.48-1 (2025-09-20)\n",
    "proc/sys/kernel/osrelease": "6.12.48+deb13-amd64\n",
    "proc/meminfo": "MemTotal:  16384000 kB\nHugePages_Total:       0\nHugepagesize:       2048 kB\n",
    "lib/modules/6.12.48+deb13-amd64/modules.dep": "kernel/drivers/vfio/pci/vfio-pci.ko.xz:\n",
    "sys/firmware/acpi/tables/DMAR": "",
    "sys/class/misc/kvm/dev": "10:232\n",
    "run/vfagent/kvm.json": "true",
    "etc/group": "root:x:0:\nkvm:x:993:\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "usr/lib/systemd/system/vfagent.service": "[Service]\n",
    "usr/lib/udev/rules.d/70-vfagent.rules": "# Never match ATTR{sriov_numvfs}\n",
    "usr/lib/udev/hwdb.bin": "",
    QEMU.lstrip("/"): "",
    **{path.lstrip("/"): "" for path in IPXE_IMAGES.values()},
}


def healthy(root: Path) -> Tree:
    tree = Tree(root)
    for path, text in FILES.items():
        put(root / path, text)
    tree.add_pf(PF, vfs=2, interface="ens1")
    tree.add_device(PF, sriov_vf_device="10ca", sriov_drivers_autoprobe="0", ari_enabled="1")
    put(root / "sys/class/net/ens1/flags", "0x1003\n")
    for vf in tree.vfs(PF):
        tree.bind(vf, "vfio-pci")
    tree.policy(POLICY)
    return tree


def rom(hardware: str, code: int = 0) -> bytes:
    """A PCI ROM of one image of 512 bytes."""
    vendor, device = (int(part, 16) for part in hardware.split(":"))
    data = struct.pack("<4sHHHHB3xHHBBH", b"PCIR", vendor, device, 0, 0x18, 3, 1, 0, code, 0x80, 0)
    return (b"\x55\xaa\x01".ljust(0x18, b"\0") + (0x1C).to_bytes(2, "little") + b"\0\0" + data).ljust(512, b"\0")


def config_space(total_vfs: int | None) -> bytes:
    """An extended capability, and after it that of SR-IOV, unless `total_vfs` is None."""
    space = bytearray(4096)
    space[0x100:0x104] = (0x0001 | 1 << 16 | (0 if total_vfs is None else 0x160) << 20).to_bytes(4, "little")
    if total_vfs is not None:
        space[0x160:0x164] = (0x0010 | 1 << 16).to_bytes(4, "little")
        space[0x16E:0x170] = total_vfs.to_bytes(2, "little")
    return bytes(space)
