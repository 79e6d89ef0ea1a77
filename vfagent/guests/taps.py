# SPDX-License-Identifier: Apache-2.0
"""The taps of guests' NICs: made when a guest starts, and gone with its unit, which has them open."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from vfagent.errors import VfagentError, answer_text
from vfagent.frozen import frozen
from vfagent.guests.spec.nics import Tap
from vfagent.kernel.protocols import Host
from vfagent.kernel.tap import join, open_tap, set_down
from vfagent.reconcile.observe_autoconf import conf_folder
from vfagent.reconcile.observe_netdevs import NETDEVS


@contextmanager
def open_taps(taps: Iterable[Tap], host: Host) -> Iterator[tuple[int, ...]]:
    """The descriptors of a starting guest's taps, which are in their bridges. Raises VfagentError."""
    fds: list[int] = []
    try:
        for tap in taps:
            fds.append(_open(tap, host))
            attach(tap, host)
        yield tuple(fds)
    finally:
        for fd in fds:
            os.close(fd)


def _open(tap: Tap, host: Host) -> int:
    link = host.network.link(tap.name)
    try:
        if link and link.managed:  # a QEMU made it outlive itself (TUNSETPERSIST)
            host.network.delete(link.ifindex)
        return open_tap(tap.name)
    except OSError as error:
        raise VfagentError(f"tap {tap.name}: cannot make it: {answer_text(error)}", hint="modprobe tun") from error


def attach(tap: Tap, host: Host) -> frozenset[int]:
    """Make the tap a port of its bridge, in its VLAN; returns both ifindexes. Raises VfagentError."""
    link, bridge = host.network.link(tap.name), host.network.link(tap.bridge)
    if link is None:
        return frozenset()  # the guest has ended
    if bridge is None or bridge.kind != "bridge":
        raise VfagentError(
            f"{tap.name}: cannot join {tap.bridge}: {'it is no bridge' if bridge else 'it does not exist'}"
        )
    try:
        if tap.vlan is not None and not bridge.vlan_filtering:
            if link.admin_up:
                set_down(link)
            text = f"{tap.name}: cannot join {bridge.name} in VLAN {tap.vlan}: the bridge does not filter by VLAN"
            raise VfagentError(
                text, hint="vlan_filtering = true in its [[bridge]] rule, or ip link set … vlan_filtering 1"
            )
        if not (link.admin_up and link.master == bridge.ifindex and link.mac == tap.mac):
            _close_to_ipv6(tap.name, host)
            default = host.sysfs.read(f"{NETDEVS}/{bridge.name}/bridge/default_pvid") or "0"
            join(link, bridge, mac=tap.mac, vlan=tap.vlan, default_vlan=int(default) or None)
    except OSError as error:
        raise VfagentError(f"{tap.name}: cannot join {bridge.name}: {answer_text(error)}") from error
    return frozenset({link.ifindex, bridge.ifindex})


def _close_to_ipv6(name: str, host: Host) -> None:
    """The host has no address on it, so that the guest reaches none."""
    path = f"{conf_folder(host, name)}/disable_ipv6"
    if host.sysfs.exists(path):
        host.sysfs.write(path, "1")


@frozen(slots=True)
class TapsReport:
    """Why taps are not in their bridges, and the ifindexes of taps and bridges."""

    problems: tuple[str, ...] = ()
    ifindexes: frozenset[int] = frozenset()


def attach_all(taps: Iterable[Tap], host: Host) -> TapsReport:
    problems, ifindexes = list[str](), frozenset[int]()
    for tap in taps:
        try:
            ifindexes |= attach(tap, host)
        except VfagentError as error:
            problems.append(f"{error} ({error.hint})" if error.hint else str(error))
    return TapsReport(tuple(problems), ifindexes)
