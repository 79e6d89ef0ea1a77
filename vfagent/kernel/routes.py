# SPDX-License-Identifier: Apache-2.0
"""Routes by one interface, read and put by another: those that move with an address."""

import errno
import socket
from collections.abc import Iterator
from typing import Any

from vfagent.kernel.iproute import ask, rtnetlink
from vfagent.model.network import Route

_BY_KERNEL = 2  # RTPROT_KERNEL: the kernel adds and removes those with their address
_CLONED, _ONLINK = 0x200, 0x4
_ANY = {socket.AF_INET: "0.0.0.0/0", socket.AF_INET6: "::/0"}
# What a route is read of. One with something else, as an encapsulation, would lose that on another interface.
_READ = frozenset(
    {
        *("RTA_DST", "RTA_OIF", "RTA_GATEWAY", "RTA_VIA", "RTA_PRIORITY", "RTA_PREFSRC", "RTA_METRICS", "RTA_TABLE"),
        *("RTA_CACHEINFO", "RTA_PREF", "RTA_FLOW", "RTA_MULTIPATH"),
    }
)
_SEVERAL_NEXTHOPS = ("has several nexthops", "give each nexthop a route with a metric of its own")
_UNREAD = {
    "RTA_SRC": "is for packets of a source prefix alone",
    "RTA_ENCAP": "has an encapsulation",
    "RTA_ENCAP_TYPE": "has an encapsulation",
}
_UNKNOWN = "has a nexthop object, or another attribute that vfagent does not know"


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
    metrics = {**dict(route.metrics), "cc_algo": route.congestion_control}
    optional = {
        **_gateway(route),
        "priority": route.priority,
        "prefsrc": route.source,
        "metrics": {name: value for name, value in metrics.items() if value is not None} or None,
        "flags": _ONLINK if route.onlink else None,
        "flow": route.realms,
        "pref": route.preference,
    }
    request = {
        "family": route.family,
        "dst": route.destination or _ANY[socket.AddressFamily(route.family)],
        "oif": ifindex,
        "table": route.table,
        "proto": route.protocol,
        "scope": route.scope,
        "tos": route.tos,
        "type": route.kind,
        **{name: value for name, value in optional.items() if value is not None},
    }
    with rtnetlink() as ip:
        try:
            ask(lambda: ip.route(command, **request))
        except OSError as error:
            if error.errno != harmless:
                raise


def _gateway(route: Route) -> dict[str, object]:
    """An IPv4 route's gateway may be an IPv6 address (since 5.2)."""
    if route.family == socket.AF_INET and ":" in (route.gateway or ""):
        return {"via": {"family": int(socket.AF_INET6), "addr": route.gateway}}
    return {"gateway": route.gateway}


def _routes(family: int) -> Iterator[tuple[int, Route]]:
    """Each route with its interface, in the kernel's order. A multipath route is one for each of its nexthops."""
    with rtnetlink() as ip:
        messages = ask(lambda: list(ip.get_routes(family=family)))
    for message in messages:
        if _is_static(message):
            hops = message.get_attr("RTA_MULTIPATH") or ()
            if not hops and (ifindex := message.get_attr("RTA_OIF")):
                yield ifindex, _route(message, message, _immovable(message))
            for hop in hops:
                yield hop["oif"], _route(message, hop, _SEVERAL_NEXTHOPS)


def _is_static(message: Any) -> bool:
    return message["proto"] != _BY_KERNEL and not message["flags"] & _CLONED


def _immovable(message: Any) -> tuple[str, str] | None:
    metrics = message.get_attr("RTA_METRICS")
    names = [name for name, _ in (*message["attrs"], *(metrics["attrs"] if metrics else ()))]
    unread = next((name for name in names if name not in _READ and not name.startswith("RTAX_")), None)
    return (_UNREAD.get(unread, _UNKNOWN), "put a route without it in its place") if unread else None


def _route(message: Any, hop: Any, immovable: tuple[str, str] | None) -> Route:
    """`hop` is the message itself, or one of its nexthops."""
    destination, metrics, via = (message.get_attr(f"RTA_{name}") for name in ("DST", "METRICS", "VIA"))
    values = {name.removeprefix("RTAX_").lower(): value for name, value in metrics["attrs"]} if metrics else {}
    congestion_control = values.pop("cc_algo", None)
    return Route(
        family=message["family"],
        destination=f"{destination}/{message['dst_len']}" if destination else None,
        gateway=hop.get_attr("RTA_GATEWAY") or (via["addr"] if via else None),
        table=message.get_attr("RTA_TABLE") or message["table"],
        priority=message.get_attr("RTA_PRIORITY"),
        source=message.get_attr("RTA_PREFSRC"),
        protocol=message["proto"],
        scope=message["scope"],
        tos=message["tos"],
        metrics=tuple((name, value) for name, value in values.items() if isinstance(value, int)),
        congestion_control=congestion_control,
        onlink=bool(message["flags"] & _ONLINK),
        kind=message["type"],
        realms=message.get_attr("RTA_FLOW"),
        preference=message.get_attr("RTA_PREF"),
        immovable=immovable,
    )
