# SPDX-License-Identifier: Apache-2.0
"""Traffic counters of VFs."""

from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from vfagent.metrics.families import Samples, counter
from vfagent.metrics.view import View

_DIRECTIONS = {"rx": ("receive", "received by"), "tx": ("transmit", "sent by")}
TRAFFIC = {
    **{
        f"{way}_{what}": counter(
            f"vf_{word}_{what}", f"{what.capitalize()} {done} the VF, counted by its PF.", "pf", "vf"
        )
        for way, (word, done) in _DIRECTIONS.items()
        for what in ("bytes", "packets")
    },
    **{
        f"{way}_dropped": counter(
            f"vf_{word}_dropped_packets", f"Packets to be {done} the VF that were dropped.", "pf", "vf"
        )
        for way, (word, done) in _DIRECTIONS.items()
    },
    "broadcast": counter("vf_receive_broadcast_packets", "Broadcast packets received by the VF.", "pf", "vf"),
    "multicast": counter("vf_receive_multicast_packets", "Multicast packets received by the VF.", "pf", "vf"),
}

FAMILIES = tuple(TRAFFIC.values())


def collect(view: View) -> Iterator[Metric]:
    """Without PFs that have lost VFs since their counters were read."""
    samples = Samples(FAMILIES)
    for pf in view.status.pfs:
        traffic = view.traffic.get(pf.address, {})
        if traffic.keys() <= {vf.index for vf in pf.vfs}:
            for index, counters in traffic.items():
                for name, family in TRAFFIC.items():
                    samples.add(family, getattr(counters, name), pf.address, str(index))
    return samples.metrics()
