# SPDX-License-Identifier: Apache-2.0
"""Routes by one interface, read and put by another: those that move with an address."""

import socket
from typing import Any

from vfagent.kernel.iproute import ask, rtnetlink
from vfagent.model.network import Route

_UNICAST, _BY_KERNEL = 1, 2  # RTN_UNICAST; RTPROT_KERNEL: the kernel adds and removes those with their address
_CLONED, _ONLINK = 0x200, 0x4
_ANY = {socket.AF_INET: "0.0.0.0/0", socket.AF_INET6: "::/0"}
_METRICS = ("mtu", "window", "rtt", "advmss", "initcwnd", "initrwnd", "hoplimit")


class KernelRoutes:
    def by(self, ifindex: int) -> tuple[Route, ...]:
        """Without the kernel's own, and without routes by several interfaces."""
        with rtnetlink() as ip:
            messages = [*ask(lambda: list(ip.get_routes(family=socket.AF_INET)))]
            messages += ask(lambda: list(ip.get_routes(family=socket.AF_INET6)))
        by_interface = (message for message in messages if message.get_attr("RTA_OIF") == ifindex)
        return tuple(_route(message) for message in by_interface if _is_static(message))

    def put(self, ifindex: int, route: Route) -> None:
        """Replaces a route with the same destination and priority. Raises OSError."""
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
            ask(lambda: ip.route("replace", **request))


def _is_static(message: Any) -> bool:
    return message["type"] == _UNICAST and message["proto"] != _BY_KERNEL and not message["flags"] & _CLONED


def _route(message: Any) -> Route:
    destination, metrics = message.get_attr("RTA_DST"), message.get_attr("RTA_METRICS")
    values = ((name, metrics.get_attr(f"RTAX_{name.upper()}")) for name in _METRICS) if metrics else ()
    return Route(
        family=message["family"],
        destination=f"{destination}/{message['dst_len']}" if destination else None,
        gateway=message.get_attr("RTA_GATEWAY"),
        table=message.get_attr("RTA_TABLE") or message["table"],
        priority=message.get_attr("RTA_PRIORITY"),
        source=message.get_attr("RTA_PREFSRC"),
        protocol=message["proto"],
        scope=message["scope"],
        tos=message["tos"],
        metrics=tuple((name, value) for name, value in values if value is not None),
        onlink=bool(message["flags"] & _ONLINK),
    )
