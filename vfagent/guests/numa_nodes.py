# SPDX-License-Identifier: Apache-2.0
"""NUMA nodes of the host, by sysfs (Documentation/ABI/stable/sysfs-devices-node)."""

from collections.abc import Iterable

from vfagent.guests.spec.numa import NumaNode
from vfagent.guests.spec.unit_values import numbers
from vfagent.kernel.protocols import Sysfs
from vfagent.model.guest_unit import GuestVf

NODES = "sys/devices/system/node"


def nodes_of(vfs: Iterable[GuestVf], sysfs: Sysfs) -> tuple[NumaNode, ...]:
    """The nodes that these VFs are on. A node that is not online has neither memory nor processors."""
    with_memory = set(numbers(sysfs.read(f"{NODES}/has_memory") or ""))
    wanted = sorted({vf.numa_node for vf in vfs if vf.numa_node is not None})
    return tuple(NumaNode(number, _cpus(number, sysfs), number in with_memory) for number in wanted)


def _cpus(node: int, sysfs: Sysfs) -> int:
    return len(set(numbers(sysfs.read(f"{NODES}/node{node}/cpulist") or "")))
