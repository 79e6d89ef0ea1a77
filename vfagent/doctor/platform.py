# SPDX-License-Identifier: Apache-2.0
"""Reads the host's kernel, IOMMU, KVM, memory and addresses from its files."""

import grp
import ipaddress
import os
import re
import stat
from pathlib import Path

from vfagent.doctor.checks.facts import ARM, Iommu, Kernel, Kvm, Memory
from vfagent.model.evidence import VFIO_DRIVER
from vfagent.model.numvfs_lock import kernel_version
from vfagent.store.guest_records import GuestRecords
from vfagent.store.host_files import HostFiles

_INTERRUPTS_LIMIT = 1 << 25  # thousands of vectors times hundreds of processors


def read_kernel(files: HostFiles, log: tuple[str, ...]) -> Kernel:
    release = (files.read("proc/sys/kernel/osrelease") or "").strip()
    cpuinfo = files.read("proc/cpuinfo") or ""
    cpu = re.search(r"(?m)^vendor_id\s*:\s*(\S+)|^CPU (implementer)\s*:", cpuinfo)
    flag_line = re.search(r"(?m)^flags\s*:(.*)", cpuinfo)
    flags = set(flag_line[1].split()) if flag_line else set[str]()
    return Kernel(
        version=kernel_version(release, files.read("proc/version") or ""),
        release=release,
        cmdline=(files.read("proc/cmdline") or "").strip(),
        cpu=ARM if cpu and cpu[2] else cpu[1] if cpu else "",
        virtualizes=not flags or bool({"vmx", "svm"} & flags),
        virtual="hypervisor" in flags,
        log=log,
        has_vfio=files.exists(f"sys/bus/pci/drivers/{VFIO_DRIVER}"),
        can_load_vfio=_has_module(files, release, VFIO_DRIVER),
        drivers=frozenset(files.names("sys/bus/pci/drivers")),
        lockdown=_lockdown(files),
        mlx4_num_vfs=(files.read("sys/module/mlx4_core/parameters/num_vfs") or "").strip(),
        vfio_sriov=_is_set(files, "vfio_pci/parameters/enable_sriov"),
        vfio_denylist=not _is_set(files, "vfio_pci/parameters/disable_denylist"),
    )


def _has_module(files: HostFiles, release: str, name: str) -> bool:
    """True if there is no list of modules."""
    lists = [files.read(f"lib/modules/{release}/modules.{kind}") for kind in ("dep", "builtin")]
    return all(text is None for text in lists) or any(f"/{name}.ko" in (text or "") for text in lists)


def _lockdown(files: HostFiles) -> str:
    """The mode in brackets, unless it is `none` (security/lockdown/lockdown.c, lockdown_read)."""
    match = re.search(r"\[(\w+)\]", files.read("sys/kernel/security/lockdown") or "")
    return match[1] if match and match[1] != "none" else ""


def read_iommu(files: HostFiles, cpu: str) -> Iommu:
    tables = files.names("sys/firmware/acpi/tables")
    # Not by the processor: a VM may have Intel's IOMMU and AMD's processor.
    table = next((name for name in ("DMAR", "IVRS", "IORT") if name in tables), "")
    groups = (f"sys/kernel/iommu_groups/{number}/name" for number in files.names("sys/kernel/iommu_groups"))
    return Iommu(
        # vfio makes groups of its own in no-IOMMU mode (vfio_noiommu_group_alloc()).
        on=any((files.read(name) or "").strip() != "vfio-noiommu" for name in groups),
        table=table if tables else None,
        remaps_interrupts=_remaps_interrupts(files) if cpu in ("GenuineIntel", "AuthenticAMD") else None,
        unsafe_interrupts=_is_set(files, "vfio_iommu_type1/parameters/allow_unsafe_interrupts"),
        no_iommu=_is_set(files, "vfio/parameters/enable_unsafe_noiommu_mode"),
    )


def _remaps_interrupts(files: HostFiles) -> bool | None:
    """On x86, /proc/interrupts names the controller of each vector, with the prefix IR- if the IOMMU remaps it."""
    text = files.read_bytes("proc/interrupts", _INTERRUPTS_LIMIT)
    return None if not text else b" IR-" in text


def _is_set(files: HostFiles, parameter: str) -> bool:
    return (files.read(f"sys/module/{parameter}") or "").strip() in ("Y", "1")


def read_kvm(files: HostFiles, root: Path) -> Kvm:
    group = _group(files, root, "kvm")
    device = files.exists("sys/class/misc/kvm")
    permitted = root != Path("/") or not device or _is_open_to(group, "/dev/kvm")
    return Kvm(device=device, permitted=permitted, group=group is not None, works=GuestRecords(root).kvm())


def _group(files: HostFiles, root: Path, name: str) -> int | None:
    if root == Path("/"):
        try:
            return grp.getgrnam(name).gr_gid
        except KeyError:
            return None
    match = re.search(rf"(?m)^{name}:[^:]*:(\d+)", files.read("etc/group") or "")
    return int(match[1]) if match else None


def _is_open_to(group: int | None, path: str) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return False
    others, members = stat.S_IROTH | stat.S_IWOTH, stat.S_IRGRP | stat.S_IWGRP
    by_group = status.st_gid == group and status.st_mode & members == members
    return by_group or status.st_mode & others == others


def read_memory(files: HostFiles) -> Memory:
    text = files.read("proc/meminfo") or ""
    amounts = {key: int(number) for key, number in re.findall(r"(?m)^(\w+):\s+(\d+)", text)}
    folder, default_kib = "sys/kernel/mm/hugepages", amounts.get("Hugepagesize", 2048)
    sizes = (int(match[1]) for name in files.names(folder) if (match := re.fullmatch(r"hugepages-(\d+)kB", name)))
    pages = {kib: _number(files.read(f"{folder}/hugepages-{kib}kB/nr_hugepages")) for kib in sizes}
    pages.setdefault(default_kib, amounts.get("HugePages_Total", 0))
    huge_mib = {kib: kib * count >> 10 for kib, count in pages.items()}
    return Memory(amounts.get("MemTotal", 0) >> 10, huge_mib, default_kib)


def _number(text: str | None) -> int:
    return int(text) if text and text.strip().isdecimal() else 0


def listening_ports(files: HostFiles) -> frozenset[int]:
    """TCP ports in state LISTEN, which is 0A in /proc/net/tcp."""
    tables = (files.read(f"proc/net/{name}") or "" for name in ("tcp", "tcp6"))
    lines = (line.split() for table in tables for line in table.splitlines())
    return frozenset(int(words[1].rpartition(":")[2], 16) for words in lines if len(words) > 3 and words[3] == "0A")


def own_addresses(files: HostFiles) -> frozenset[str]:
    four = re.findall(r"\|-- (\S+)\n\s+/32 host LOCAL", files.read("proc/net/fib_trie") or "")
    six = (line.split()[0] for line in (files.read("proc/net/if_inet6") or "").splitlines())
    return frozenset([*four, *(str(ipaddress.IPv6Address(int(text, 16))) for text in six)])
