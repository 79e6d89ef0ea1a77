# SPDX-License-Identifier: Apache-2.0
"""The host's own network through rtnetlink: VLAN interfaces, bridges, addresses, and the FDB of a device.

pyroute2 as in iproute.py: its synchronous API, and a socket for each call.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vfagent.kernel.iproute import ask, rtnetlink, setter
from vfagent.kernel.neighbours import FdbEntry, fdb_entries, neighbour_macs
from vfagent.model.network import MANAGED_ALIAS, UNMARKED_GROUP, Address, AddressDetails, Link, VlanTag
from vfagent.model.vf_settings import VlanProtocol

_AF_INET, _AF_INET6 = 2, 10
_ETHERTYPE = {VlanProtocol.DOT1Q: 0x8100, VlanProtocol.DOT1AD: 0x88A8}
_PROTOCOL = {value: key for key, value in _ETHERTYPE.items()}
_IFF_UP = 0x1
_PROTO_VFAGENT = 0x76  # IFA_PROTO, from Linux 5.18 on; without it no address is known as managed, and none is removed
_NODAD = 0x02
_PERMANENT, _NOARP, _REACHABLE, _FAILED, _NONE = 0x80, 0x40, 0x02, 0x20, 0x00
_RESOLVED = _REACHABLE | 0x04 | 0x08 | 0x10  # NUD_STALE, NUD_DELAY, NUD_PROBE
_NTF_USE, _NTF_SELF = 0x01, 0x02
_POLL_S = 0.05
_HWMODES = {"veb": 0, "vepa": 1}
_MACVLANS = ("macvlan", "macvtap")
_SELF = 2  # BRIDGE_FLAGS_SELF: the driver's own switch, not a bridge that it is a port of


class KernelNetwork:
    def link(self, which: str | int) -> Link | None:
        key: dict[str, object] = {"index": which} if isinstance(which, int) else {"ifname": which}
        with rtnetlink() as ip:
            try:
                messages = ask(lambda: ip.link("get", **key))
            except OSError:
                return None  # ENODEV: no such link
        return _link(messages[0]) if messages else None

    def addresses(self) -> Mapping[int, tuple[Address, ...]]:
        by_link: dict[int, list[Address]] = {}
        with rtnetlink() as ip:
            messages = ask(lambda: list(ip.get_addr()))
        for message in messages:
            by_link.setdefault(message["index"], []).append(_address(message))
        return {ifindex: tuple(addresses) for ifindex, addresses in by_link.items()}

    def add_vlan(self, name: str, parent: int, tag: VlanTag) -> None:
        kind = {"kind": "vlan", "vlan_id": tag.id, "vlan_protocol": _ETHERTYPE[tag.protocol]}
        _request(lambda ip: ip.link("add", ifname=name, link=parent, group=UNMARKED_GROUP, **kind))

    def add_bridge(self, name: str) -> None:
        _request(lambda ip: ip.link("add", ifname=name, kind="bridge", group=UNMARKED_GROUP))

    def mark(self, ifindex: int) -> None:
        setter(index=ifindex, ifalias=MANAGED_ALIAS, group=0)

    def set_link(
        self, ifindex: int, *, mtu: int | None = None, up: bool | None = None, master: int | None = None
    ) -> None:
        """`master` 0 releases a port."""
        state = None if up is None else "up" if up else "down"
        values = {"mtu": mtu, "state": state, "master": master}
        setter(index=ifindex, **{name: value for name, value in values.items() if value is not None})

    def set_vlan_filtering(self, ifindex: int, *, on: bool) -> None:
        setter(index=ifindex, kind="bridge", br_vlan_filtering=int(on))

    def delete(self, ifindex: int) -> None:
        _request(lambda ip: ip.link("del", index=ifindex))

    def add_address(
        self,
        ifindex: int,
        address: str,
        *,
        managed: bool = True,
        known_unique: bool = False,
        details: AddressDetails | None = None,
    ) -> None:
        """`known_unique` skips IPv6's duplicate address detection, during which an address cannot be used."""
        details = details or AddressDetails(broadcast=_broadcast(address))
        request = {**_which(address, details.peer), "scope": details.scope}
        optional = {
            "proto": _PROTO_VFAGENT if managed else None,
            "flags": _NODAD if ":" in address and known_unique else None,
            "broadcast": details.broadcast,
            "label": details.label,
            "rt_priority": details.metric,
        }
        request |= {name: value for name, value in optional.items() if value is not None}
        _request(lambda ip: ip.addr("add", index=ifindex, **request))

    def remove_address(self, ifindex: int, address: str, *, peer: str | None = None) -> None:
        _request(lambda ip: ip.addr("del", index=ifindex, **_which(address, peer)))

    def fdb(self, ifindex: int) -> frozenset[str]:
        """The unicast entries of a device's own FDB."""
        return frozenset(entry.mac for entry in fdb_entries() if entry.ifindex == ifindex and entry.own)

    def learnt(self, bridge: int) -> tuple[FdbEntry, ...]:
        entries = (entry for entry in fdb_entries() if entry.master == bridge and not entry.own)
        # With VLANs a MAC has an entry for each; kernel 6.12 lists one without twice.
        return tuple(dict.fromkeys(entries))

    def neighbour_macs(self) -> Mapping[int, frozenset[str]]:
        return neighbour_macs()

    def add_fdb(self, ifindex: int, mac: str) -> None:
        _request(lambda ip: ip.fdb("add", ifindex=ifindex, lladdr=mac))

    def remove_fdb(self, ifindex: int, mac: str) -> None:
        _request(lambda ip: ip.fdb("del", ifindex=ifindex, lladdr=mac))

    def set_hwmode(self, ifindex: int, mode: str) -> None:
        # pyroute2's call for VLAN filters is the one that sends RTM_SETLINK with AF_BRIDGE.
        spec = {"attrs": [["IFLA_BRIDGE_FLAGS", _SELF], ["IFLA_BRIDGE_MODE", _HWMODES[mode]]]}
        _request(lambda ip: ip.vlan_filter("add", index=ifindex, IFLA_AF_SPEC=spec))

    def answers(self, ifindex: int, address: str, within_s: float) -> bool:
        """Whether a neighbour answers on this interface. The kernel sends the requests (ARP, NDP)."""
        family = _AF_INET6 if ":" in address else _AF_INET
        end = time.monotonic() + within_s
        with rtnetlink() as ip:
            entry = {"dst": address, "ifindex": ifindex, "family": family}
            _delete_neighbour(ip, entry)
            while time.monotonic() < end:
                # Again each time: it also restarts a failed entry.
                _resolve(ip, entry)
                time.sleep(_POLL_S)
                if _state(ip, ifindex, address, family) & _REACHABLE:
                    return True
        return False

    def neighbours(self, ifindex: int) -> tuple[str, ...]:
        with rtnetlink() as ip:
            messages = ask(lambda: list(ip.get_neighbours(ifindex=ifindex)))
        resolved = (entry for entry in messages if entry["ifindex"] == ifindex and entry["state"] & _RESOLVED)
        return tuple(address for entry in resolved if (address := entry.get_attr("NDA_DST")))

    def ask_for(self, ifindex: int, neighbours: Iterable[str]) -> None:
        with rtnetlink() as ip:
            for neighbour in neighbours:
                entry = {"dst": neighbour, "ifindex": ifindex, "family": _AF_INET}
                _delete_neighbour(ip, entry)
                _resolve(ip, entry)


def _resolve(ip: Any, entry: dict[str, Any]) -> None:
    """NTF_USE: the kernel resolves the neighbour as if it had a packet for it."""
    ask(lambda: ip.neigh("replace", state=_NONE, flags=_NTF_USE, **entry))


def _delete_neighbour(ip: Any, entry: dict[str, Any]) -> None:
    try:
        ask(lambda: ip.neigh("del", **entry))
    except OSError:
        return  # ENOENT: no entry


def _state(ip: Any, ifindex: int, address: str, family: int) -> int:
    messages = ask(lambda: list(ip.get_neighbours(family=family)))
    entries = (entry for entry in messages if entry["ifindex"] == ifindex and entry.get_attr("NDA_DST") == address)
    return next((int(entry["state"]) for entry in entries), _NONE)


def _request(request: Callable[[Any], object]) -> None:
    with rtnetlink() as ip:
        ask(lambda: request(ip))


def _which(address: str, peer: str | None) -> dict[str, object]:
    """IFA_ADDRESS is the other end's address, where there is one, and else the same as IFA_LOCAL."""
    text, _, length = address.partition("/")
    return {"address": peer or text, "prefixlen": int(length), **({"local": text} if peer else {})}


def _broadcast(address: str) -> str | None:
    """As `ip address add` gives it (broadcast +)."""
    import ipaddress  # late: 2 ms of the start (few policies give IPv4 addresses)

    if ":" in address or int(address.rpartition("/")[2]) >= 31:
        return None
    return str(ipaddress.IPv4Interface(address).network.broadcast_address)


def _address(message: Any) -> Address:
    other, text = message.get_attr("IFA_ADDRESS"), message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    details = AddressDetails(
        scope=message["scope"],
        peer=other if other != text else None,
        broadcast=message.get_attr("IFA_BROADCAST"),
        label=message.get_attr("IFA_LABEL"),
        metric=message.get_attr("IFA_RT_PRIORITY"),
    )
    managed = message.get_attr("IFA_PROTO") == _PROTO_VFAGENT
    return Address(f"{text}/{message['prefixlen']}", managed, details)


def _link(message: Any) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info else None
    data = info.get_attr("IFLA_INFO_DATA") if info else None
    return Link(
        name=message.get_attr("IFLA_IFNAME"),
        ifindex=message["index"],
        mac=message.get_attr("IFLA_ADDRESS") or "",
        mtu=message.get_attr("IFLA_MTU") or 0,
        admin_up=bool(message["flags"] & _IFF_UP),
        kind=kind,
        alias=message.get_attr("IFLA_IFALIAS"),
        group=message.get_attr("IFLA_GROUP") or 0,
        master=message.get_attr("IFLA_MASTER"),
        lower=message.get_attr("IFLA_LINK"),
        vlan=_tag(data) if kind == "vlan" and data else None,
        vlan_filtering=bool(data.get_attr("IFLA_BR_VLAN_FILTERING")) if kind == "bridge" and data else None,
        passthru=_mode(kind or "", data) == "passthru",
    )


def _mode(kind: str, data: Any) -> str | None:
    """A macvlan's or macvtap's."""
    mode: str | None = data.get_attr(f"IFLA_{kind.upper()}_MODE") if kind in _MACVLANS and data else None
    return mode


def _tag(data: Any) -> VlanTag:
    protocol = _PROTOCOL.get(data.get_attr("IFLA_VLAN_PROTOCOL"), VlanProtocol.DOT1Q)
    return VlanTag(data.get_attr("IFLA_VLAN_ID"), protocol)
