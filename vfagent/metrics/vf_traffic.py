# SPDX-License-Identifier: Apache-2.0
"""Traffic counters of VFs.

The worker that reads the counters also formats their lines: 1,024 VFs have 8,000 of them, and a scrape must not wait
for that.
"""

from collections.abc import Iterator, Mapping

from vfagent.kernel.vf_counters import VfCounters
from vfagent.metrics.families import counter, header
from vfagent.metrics.view import PfTraffic, View

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


def traffic_lines(pf: str, counters: Mapping[int, VfCounters]) -> PfTraffic:
    return PfTraffic(
        frozenset(counters),
        {
            family.name: "".join(
                [
                    f'{family.name}{{pf="{pf}",vf="{index}"}} {value}.0\n'
                    for index, vf in counters.items()
                    if (value := getattr(vf, name)) is not None
                ]
            )
            for name, family in TRAFFIC.items()
        },
    )


def text(view: View) -> Iterator[str]:
    """Without PFs that have lost VFs since their counters were read."""
    present = [
        traffic
        for pf in view.status.pfs
        if (traffic := view.traffic.get(pf.address)) and traffic.vfs <= {vf.index for vf in pf.vfs}
    ]
    for family in FAMILIES:
        if lines := "".join([traffic.lines[family.name] for traffic in present]):
            yield header(family.name, family.help, family.kind) + lines
