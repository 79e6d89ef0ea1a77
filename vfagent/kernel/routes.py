# SPDX-License-Identifier: Apache-2.0
"""Routes by one interface, read and put by another: what an address takes with it when it moves."""

import socket
from typing import Any

from vfagent.kernel.iproute import ask, rtnetlink
from vfagent.model.network import Route

_UNICAST, _BY_KERNEL = 1, 2  # RTN_UNICAST; RTPROT_KERNEL: those come and go with their address
_CLONED, _ONLINK = 0x200, 0x4
_ANY = {socket.AF_INET: "0.0.0.0/0", socket.AF_INET6: "::/0"}
_METRICS = ("mtu", "window", "rtt", "advmss", "initcwnd", "initrwnd", "hoplimit")


class KernelRoutes:
    def by(self, ifindex: int) -> tuple[Route, ...]:
        """Those that somebody set. A route by several interfaces is not among them."""
        with rtnetlink() as ip:
            messages = [one for family in _ANY for one in ask(lambda family=family: list(ip.get_routes(family=family)))]
        managed = (one for one in messages if one.get_attr("RTA_OIF") == ifindex)
        return tuple(_route(one) for one in managed if one["type"] == _UNICAST and _is_foreign(one))

    def put(self, ifindex: int, route: Route) -> None:
        """In the place of what goes to the same destination with the same priority. Raises OSError."""
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


def _is_foreign(message: Any) -> bool:
    return message["proto"] != _BY_KERNEL and not message["flags"] & _CLONED


def _route(message: Any) -> Route:
    destination, metrics = message.get_attr("RTA_DST"), message.get_attr("RTA_METRICS")
    found = ((name, metrics.get_attr(f"RTAX_{name.upper()}")) for name in _METRICS) if metrics else ()
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
        metrics=tuple((name, value) for name, value in found if value is not None),
        onlink=bool(message["flags"] & _ONLINK),
    )
