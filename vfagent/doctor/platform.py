# SPDX-License-Identifier: Apache-2.0
"""What a host's files tell of its kernel, IOMMU, KVM, memory and addresses."""

import grp
import ipaddress
import os
import re
import stat
from pathlib import Path

from vfagent.doctor.checks.facts import Iommu, Kernel, Kvm, Memory
from vfagent.model.inventory import VFIO_DRIVER
from vfagent.store.guest_records import GuestRecords
from vfagent.store.host_files import HostFiles

_INTERRUPTS_MOST = 1 << 25  # thousands of vectors, times hundreds of processors


def read_kernel(files: HostFiles, log: tuple[str, ...]) -> Kernel:
    release = (files.read("proc/sys/kernel/osrelease") or "").strip()
    cpuinfo = files.read("proc/cpuinfo") or ""
    cpu = re.search(r"(?m)^vendor_id\s*:\s*(\S+)", cpuinfo)
    found = re.search(r"(?m)^flags\s*:(.*)", cpuinfo)
    flags = set(found[1].split()) if found else set[str]()
    return Kernel(
        version=_version(files.read("proc/version") or "", release),
        release=release,
        cmdline=(files.read("proc/cmdline") or "").strip(),
        cpu=cpu[1] if cpu else "",
        virtualizes=not flags or bool({"vmx", "svm"} & flags),
        virtual="hypervisor" in flags,
        log=log,
        has_vfio=files.exists(f"sys/bus/pci/drivers/{VFIO_DRIVER}"),
        can_load_vfio=_has_module(files, release, VFIO_DRIVER),
    )


def _version(banner: str, release: str) -> tuple[int, ...]:
    """Debian's release is an ABI's (6.1.0-25-amd64); the banner ends in the true one: `Debian 6.1.106-3`."""
    found = re.search(r"Debian (\d+\.\d+\.\d+)", banner) or re.match(r"(\d+\.\d+(?:\.\d+)?)", release)
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def _has_module(files: HostFiles, release: str, name: str) -> bool:
    """Where there is no list of modules, nothing is said."""
    lists = [files.read(f"lib/modules/{release}/modules.{kind}") for kind in ("dep", "builtin")]
    return all(text is None for text in lists) or any(f"/{name}.ko" in (text or "") for text in lists)


def read_iommu(files: HostFiles, cpu: str) -> Iommu:
    tables = files.names("sys/firmware/acpi/tables")
    # By the table, not by the processor: a VM may have Intel's IOMMU beside AMD's processor.
    table = next((name for name in ("DMAR", "IVRS") if name in tables), "")
    return Iommu(
        on=bool(files.names("sys/kernel/iommu_groups")),
        table=table if tables else None,
        remaps_interrupts=_remaps_interrupts(files) if cpu in ("GenuineIntel", "AuthenticAMD") else None,
        unsafe_interrupts=_is_set(files, "vfio_iommu_type1/parameters/allow_unsafe_interrupts"),
        no_iommu=_is_set(files, "vfio/parameters/enable_unsafe_noiommu_mode"),
    )


def _remaps_interrupts(files: HostFiles) -> bool | None:
    """x86 names the controller of each vector, with IR- before those that the IOMMU remaps."""
    text = files.read_bytes("proc/interrupts", _INTERRUPTS_MOST)
    return None if not text else b" IR-" in text


def _is_set(files: HostFiles, parameter: str) -> bool:
    return (files.read(f"sys/module/{parameter}") or "").strip() in ("Y", "1")


def read_kvm(files: HostFiles, root: Path) -> Kvm:
    group = _group(files, root, "kvm")
    device = files.exists("sys/class/misc/kvm")
    permitted = root != Path("/") or not device or _open_to(group, "/dev/kvm")
    return Kvm(device=device, permitted=permitted, group=group is not None, works=GuestRecords(root).kvm())


def _group(files: HostFiles, root: Path, name: str) -> int | None:
    if root == Path("/"):
        try:
            return grp.getgrnam(name).gr_gid
        except KeyError:
            return None
    found = re.search(rf"(?m)^{name}:[^:]*:(\d+)", files.read("etc/group") or "")
    return int(found[1]) if found else None


def _open_to(group: int | None, path: str) -> bool:
    try:
        found = os.stat(path)
    except OSError:
        return False
    everybody = stat.S_IROTH | stat.S_IWOTH
    theirs = stat.S_IRGRP | stat.S_IWGRP
    return found.st_mode & everybody == everybody or (found.st_gid == group and found.st_mode & theirs == theirs)


def read_memory(files: HostFiles) -> Memory:
    text = files.read("proc/meminfo") or ""
    amounts = {key: int(number) for key, number in re.findall(r"(?m)^(\w+):\s+(\d+)", text)}
    huge = amounts.get("HugePages_Total", 0) * amounts.get("Hugepagesize", 0)
    return Memory(amounts.get("MemTotal", 0) >> 10, huge >> 10)


def listening_ports(files: HostFiles) -> frozenset[int]:
    """TCP ports that somebody waits at: state 0A in /proc/net/tcp."""
    tables = (files.read(f"proc/net/{name}") or "" for name in ("tcp", "tcp6"))
    lines = (line.split() for table in tables for line in table.splitlines())
    return frozenset(int(words[1].rpartition(":")[2], 16) for words in lines if len(words) > 3 and words[3] == "0A")


def own_addresses(files: HostFiles) -> frozenset[str]:
    four = re.findall(r"\|-- (\S+)\n\s+/32 host LOCAL", files.read("proc/net/fib_trie") or "")
    six = (line.split()[0] for line in (files.read("proc/net/if_inet6") or "").splitlines())
    return frozenset([*four, *(str(ipaddress.IPv6Address(int(text, 16))) for text in six)])
