# SPDX-License-Identifier: Apache-2.0
"""What a guest uses, by its unit's cgroup and its taps. The guest is not asked."""

from collections.abc import Iterator

from vfagent.kernel.protocols import Sysfs
from vfagent.model.guest_usage import GuestUsage, NicCounters

_NETDEVS = "sys/class/net"


def read_usage(sysfs: Sysfs, cgroup: str, taps: tuple[str, ...]) -> GuestUsage:
    usec = dict(_pairs(sysfs.read(f"{cgroup}/cpu.stat") or "", " ")).get("usage_usec")
    text = sysfs.read(f"{cgroup}/io.stat")  # it is empty before the first request
    io = list(_io(text or ""))
    return GuestUsage(
        cpu_s=None if usec is None else usec / 1e6,
        memory_bytes=_number(sysfs.read(f"{cgroup}/memory.current")),
        read_bytes=None if text is None else sum(device.get("rbytes", 0) for device in io),
        written_bytes=None if text is None else sum(device.get("wbytes", 0) for device in io),
        nics=tuple(_nic(sysfs, tap) for tap in taps),
    )


def _nic(sysfs: Sysfs, tap: str) -> NicCounters:
    counters = f"{_NETDEVS}/{tap}/statistics"
    names = ("tx_bytes", "rx_bytes", "tx_packets", "rx_packets")
    return NicCounters(*(_number(sysfs.read(f"{counters}/{name}")) for name in names))


def _io(text: str) -> Iterator[dict[str, int]]:
    """io.stat (cgroup-v2.rst): a line for each block device, `8:0 rbytes=4096 wbytes=0 …`."""
    for line in text.splitlines():
        yield dict(_pairs("\n".join(line.split()[1:]), "="))


def _pairs(text: str, separator: str) -> Iterator[tuple[str, int]]:
    for line in text.splitlines():
        name, _, value = line.partition(separator)
        if (number := _number(value)) is not None:
            yield name, number


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdecimal() else None
