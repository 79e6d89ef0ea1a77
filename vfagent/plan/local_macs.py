# SPDX-License-Identifier: Apache-2.0
"""Which of the MACs that bridges learned may go into a PF's FDB. Pure.

What a guest sends from is its own choice: a frame with the storage target's MAC would draw all VFs' frames for the
target to the guest, and thousands of MACs would leave no room for others.
"""

from collections import Counter
from collections.abc import Iterable

from vfagent.frozen import frozen

MOST_PER_PORT = 16
"""An eighth of what the smallest cards hold (ixgbe, ConnectX-4 Lx: 128). A port with nested guests has a few."""


@frozen(slots=True)
class BridgeEntry:
    """A MAC that a bridge reaches by a port. `local`: behind the port is only this host. `static`: set, not learned."""

    bridge: str
    port: str
    mac: str
    local: bool
    static: bool = False
    ifindex: int = 0  # of the port


@frozen(slots=True)
class LocalMacs:
    """The chosen ones as (bridge, MAC), the most important first, and why others are left out.

    `crowded` are the ports with more MACs than one may have. `on_the_wire` are, for each port that uses some, (port,
    one of the MACs) that belong to hosts elsewhere.
    """

    chosen: tuple[tuple[str, str], ...] = ()
    crowded: tuple[str, ...] = ()
    on_the_wire: tuple[tuple[str, str], ...] = ()


def choose(entries: Iterable[BridgeEntry], wire: frozenset[str], present: frozenset[str]) -> LocalMacs:
    """`wire` are MACs of hosts elsewhere, `present` what the FDB has already.

    What is present stays, so that one guest's new MACs displace nobody's. Otherwise each port gets its first MAC before
    one gets its second.
    """
    entries = list(entries)
    elsewhere = wire | {entry.mac for entry in entries if not entry.local}
    ranked, count, crowded, used = (
        list[tuple[bool, bool, int, str, str]](),
        Counter[str](),
        set[str](),
        dict[str, str](),
    )
    for entry in sorted(entries, key=lambda entry: (not entry.static, entry.mac not in present, entry.mac)):
        if not entry.local:
            continue
        if entry.mac in elsewhere:
            used[entry.port] = min(entry.mac, used.get(entry.port, entry.mac))
        elif count[entry.port] >= MOST_PER_PORT and not entry.static:
            crowded.add(entry.port)
        else:
            rank = (not entry.static, entry.mac not in present, count[entry.port])
            ranked.append((*rank, entry.bridge, entry.mac))
            count[entry.port] += not entry.static
    chosen = tuple((bridge, mac) for *_, bridge, mac in sorted(ranked))
    return LocalMacs(chosen, tuple(sorted(crowded)), tuple(sorted(used.items())))
