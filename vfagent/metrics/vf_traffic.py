# SPDX-License-Identifier: Apache-2.0
"""What VFs carried.

Whoever reads the counters writes their lines too: a page of a thousand VFs has eight thousand of them, and no scrape
should wait while they are written.
"""

from collections.abc import Iterator, Mapping

from vfagent.kernel.vf_counters import VfCounters
from vfagent.metrics.families import counter, header
from vfagent.metrics.view import PfTraffic, View

_DIRECTIONS = {"rx": ("receive", "received by"), "tx": ("transmit", "sent by")}
TRAFFIC = {
    **{
        f"{way}_{what}": counter(
            f"vf_{word}_{what}", f"{what.capitalize()} {done} the VF, as its PF counts them.", "pf", "vf"
        )
        for way, (word, done) in _DIRECTIONS.items()
        for what in ("bytes", "packets")
    },
    **{
        f"{way}_dropped": counter(
            f"vf_{word}_dropped_packets", f"Packets that were to be {done} the VF and were dropped.", "pf", "vf"
        )
        for way, (word, done) in _DIRECTIONS.items()
    },
    "broadcast": counter("vf_receive_broadcast_packets", "Broadcast packets received by the VF.", "pf", "vf"),
    "multicast": counter("vf_receive_multicast_packets", "Multicast packets received by the VF.", "pf", "vf"),
}

FAMILIES = tuple(TRAFFIC.values())


def written(pf: str, counters: Mapping[int, VfCounters]) -> PfTraffic:
    return PfTraffic(
        frozenset(counters),
        {
            family.name: "".join(
                [
                    f'{family.name}{{pf="{pf}",vf="{index}"}} {value}.0\n'
                    for index, one in counters.items()
                    if (value := getattr(one, name)) is not None
                ]
            )
            for name, family in TRAFFIC.items()
        },
    )


def text(view: View) -> Iterator[str]:
    """Of a PF that has lost VFs since nothing is shown until it is read again."""
    present = [
        found
        for pf in view.status.pfs
        if (found := view.traffic.get(pf.address)) and found.vfs <= {vf.index for vf in pf.vfs}
    ]
    for family in FAMILIES:
        if lines := "".join([found.lines[family.name] for found in present]):
            yield header(family.name, family.help, family.kind) + lines
