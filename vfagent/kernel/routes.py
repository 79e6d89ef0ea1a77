# SPDX-License-Identifier: Apache-2.0
"""Routes by one interface, read and put by another: those that move with an address."""

import errno
import socket
from collections.abc import Iterator
from typing import Any

from vfagent.kernel.iproute import ask, rtnetlink
from vfagent.model.network import Route

_UNICAST, _BY_KERNEL = 1, 2  # RTN_UNICAST; RTPROT_KERNEL: the kernel adds and removes those with their address
_CLONED, _ONLINK = 0x200, 0x4
_ANY = {socket.AF_INET: "0.0.0.0/0", socket.AF_INET6: "::/0"}
_METRICS = ("mtu", "window", "rtt", "advmss", "initcwnd", "initrwnd", "hoplimit")


class KernelRoutes:
    def by(self, ifindex: int) -> tuple[Route, ...]:
        """Without the kernel's own."""
        return tuple(
            route for family in (socket.AF_INET, socket.AF_INET6) for by, route in _routes(family) if by == ifindex
        )

    def put(self, ifindex: int, route: Route, instead_of: int | None) -> None:
        """Raises OSError.

        NLM_F_REPLACE replaces the first route of the same destination and priority, whose interface it may be
        (fib_table_insert(), fib6_add_rt2node()). So it is used only where that is the one to replace.
        """
        present = [(by, other) for by, other in _routes(route.family) if _competes(other, route)]
        if (ifindex, route) not in present:
            command = "replace" if present[:1] == [(instead_of, route)] else "append"
            _request(command, ifindex, route, harmless=errno.EEXIST)
        if instead_of is not None and (instead_of, route) in present[1:]:
            _request("del", instead_of, route, harmless=errno.ESRCH)


def _competes(other: Route, route: Route) -> bool:
    """IPv6 keeps routes with a gateway and those without one apart (rt6_qualify_for_ecmp())."""
    keys = {(each.destination, each.table, each.tos, each.priority) for each in (other, route)}
    alike = other.family == socket.AF_INET or bool(other.gateway) == bool(route.gateway)
    return alike and len(keys) == 1


def _request(command: str, ifindex: int, route: Route, *, harmless: int) -> None:
    optional = {
        "gateway": route.gateway,
        "priority": route.priority,
        "prefsrc": route.source,
        "metrics": dict(route.metrics) or None,
        "flags": _ONLINK if route.onlink else None,
    }
    request = {
        "family": route.family,
        "dst": route.destination or _ANY[socket.AddressFamily(route.family)],
        "oif": ifindex,
        "table": route.table,
        "proto": route.protocol,
        "scope": route.scope,
        "tos": route.tos,
        **{name: value for name, value in optional.items() if value is not None},
    }
    with rtnetlink() as ip:
        try:
            ask(lambda: ip.route(command, **request))
        except OSError as error:
            if error.errno != harmless:
                raise


def _routes(family: int) -> Iterator[tuple[int, Route]]:
    """Each route with its interface, in the kernel's order. A multipath route is one for each of its nexthops."""
    with rtnetlink() as ip:
        messages = ask(lambda: list(ip.get_routes(family=family)))
    for message in messages:
        if _is_static(message):
            hops = message.get_attr("RTA_MULTIPATH") or ()
            if not hops and (ifindex := message.get_attr("RTA_OIF")):
                yield ifindex, _route(message, message.get_attr("RTA_GATEWAY"))
            for hop in hops:
                yield hop["oif"], _route(message, hop.get_attr("RTA_GATEWAY"), multipath=True)


def _is_static(message: Any) -> bool:
    return message["type"] == _UNICAST and message["proto"] != _BY_KERNEL and not message["flags"] & _CLONED


def _route(message: Any, gateway: str | None, *, multipath: bool = False) -> Route:
    destination, metrics = message.get_attr("RTA_DST"), message.get_attr("RTA_METRICS")
    values = ((name, metrics.get_attr(f"RTAX_{name.upper()}")) for name in _METRICS) if metrics else ()
    return Route(
        family=message["family"],
        destination=f"{destination}/{message['dst_len']}" if destination else None,
        gateway=gateway,
        table=message.get_attr("RTA_TABLE") or message["table"],
        priority=message.get_attr("RTA_PRIORITY"),
        source=message.get_attr("RTA_PREFSRC"),
        protocol=message["proto"],
        scope=message["scope"],
        tos=message["tos"],
        metrics=tuple((name, value) for name, value in values if value is not None),
        onlink=bool(message["flags"] & _ONLINK),
        multipath=multipath,
    )
