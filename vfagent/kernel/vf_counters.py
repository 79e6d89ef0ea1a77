# SPDX-License-Identifier: Apache-2.0
"""A PF's traffic counters of each VF: IFLA_VF_STATS, by struct alone.

The kernel reports zeros for drivers that count nothing, so counters that are all zero are unknown.
"""

import struct

from vfagent.frozen import frozen
from vfagent.kernel.links import EXT_VF, Link, get_link
from vfagent.kernel.netlink import attributes
from vfagent.kernel.vf_attributes import Attributes

_IFLA_VF_STATS = 8
_NAMES = {
    0: "rx_packets",
    1: "tx_packets",
    2: "rx_bytes",
    3: "tx_bytes",
    4: "broadcast",
    5: "multicast",
    7: "rx_dropped",
    8: "tx_dropped",
}


@frozen(slots=True)
class VfCounters:
    """None for a counter that the kernel does not report."""

    rx_packets: int | None = None
    tx_packets: int | None = None
    rx_bytes: int | None = None
    tx_bytes: int | None = None
    broadcast: int | None = None
    multicast: int | None = None
    rx_dropped: int | None = None
    tx_dropped: int | None = None


def read_counters(ifindex: int) -> dict[int, VfCounters]:
    """The counters by VF index. Raises OSError; EMSGSIZE where one message cannot hold all VFs."""
    return counters_in(get_link(ifindex, EXT_VF))


def counters_in(link: Link) -> dict[int, VfCounters]:
    return {index: _counters(info) for index, info in link.vfs.items() if _IFLA_VF_STATS in info}


def _counters(info: Attributes) -> VfCounters:
    stats = attributes(info[_IFLA_VF_STATS])
    known = {_NAMES[kind]: value for kind, value in stats if kind in _NAMES and len(value) == 8}
    return VfCounters(**{name: struct.unpack("=Q", value)[0] for name, value in known.items()})
