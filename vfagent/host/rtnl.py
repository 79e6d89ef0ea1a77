# SPDX-License-Identifier: Apache-2.0
"""rtnetlink through pyroute2: links and their VFs, read and set.

Each call opens a socket of its own: a long-lived IPRoute of pyroute2 0.9 grows by 1.6 KiB a request.
"""

import importlib.util
import os
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vfagent.host import access
from vfagent.host.getlink import EXT_SKIP_STATS, EXT_VF, get_link
from vfagent.host.host import LinkFacts
from vfagent.host.link_facts import ETHERTYPE, LINK_STATE, link_facts
from vfagent.model.vf_settings import VfSettings, Vlan, VlanProtocol

_AF_BRIDGE = 7
_HWMODES = {0: "veb", 1: "vepa"}
_SCOPE_LINK = 253


def _iproute_class() -> Any:
    """pyroute2's IPRoute without the rest of pyroute2.

    The package's own __init__ imports its database and its HTTP server: half of the time and 10 MiB.
    A bare package in its place lets the one module be imported; the modules are the same in 0.7 and 0.9.
    """
    if "pyroute2" not in sys.modules:
        spec = importlib.util.find_spec("pyroute2")
        if spec and spec.submodule_search_locations:
            package = types.ModuleType("pyroute2")
            package.__path__ = list(spec.submodule_search_locations)
            package.__spec__ = spec
            sys.modules["pyroute2"] = package
    from pyroute2.iproute.linux import IPRoute
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

    # struct ifla_vf_vlan_info is 16 bytes; without the padding the kernel answers EINVAL to any protocol.
    vlan_info = ifinfmsg.vflist.vfinfo.vf_vlist.ivvi
    vlan_info.fields = (("vf", "I"), ("vlan", "I"), ("qos", "I"), ("proto", ">H"), ("pad", "H"))
    return IPRoute


IPRoute = _iproute_class()


class KernelRtnl:
    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def link(self, ifindex: int, *, vfs: bool) -> LinkFacts | None:
        try:
            # Statistics double the message, which ends at 64 KiB.
            return link_facts(get_link(ifindex, EXT_VF | EXT_SKIP_STATS if vfs else EXT_SKIP_STATS))
        except OSError:
            # EMSGSIZE: too many VFs for one message. The link alone is still worth knowing.
            return link_facts(get_link(ifindex, EXT_SKIP_STATS)) if vfs else None

    def set_vfs(self, ifindex: int, settings: Mapping[int, VfSettings]) -> None:
        setter(index=ifindex, vf=[vf_request(index, wanted) for index, wanted in settings.items()])

    def set_mtu(self, ifindex: int, mtu: int) -> None:
        setter(index=ifindex, mtu=mtu)

    def set_admin_state(self, ifindex: int, *, up: bool) -> None:
        setter(index=ifindex, state="up" if up else "down")

    def hwmode(self, ifindex: int) -> str | None:
        """The embedded switch's mode. Only a dump of all bridge-capable netdevs tells; the kernel cannot filter it."""
        with IPRoute() as ip:
            messages = ask(lambda: list(ip.link("dump", family=_AF_BRIDGE)))
        ours = (message.get_attr("IFLA_AF_SPEC") for message in messages if message["index"] == ifindex)
        modes = (spec.get_attr("IFLA_BRIDGE_MODE") for spec in ours if hasattr(spec, "get_attr"))
        return next((_HWMODES[mode] for mode in modes if mode in _HWMODES), None)

    def addressed(self) -> frozenset[int]:
        with IPRoute() as ip:
            messages = ask(lambda: list(ip.get_addr()))
        return frozenset(message["index"] for message in messages if message["scope"] < _SCOPE_LINK)

    def management(self) -> Mapping[int, str]:
        return access.management(self._root)


def ask(request: Any) -> Any:
    """pyroute2's own error becomes an OSError with the kernel's errno."""
    try:
        return request()
    except OSError:
        raise
    except Exception as error:
        code = getattr(error, "code", None)
        if not isinstance(code, int):
            raise
        raise OSError(code, os.strerror(code)) from error


def setter(**request: object) -> None:
    with IPRoute() as ip:
        ask(lambda: ip.link("set", **request))


def vf_request(index: int, settings: VfSettings) -> dict[str, Any]:
    """pyroute2's words for one IFLA_VF_INFO with every attribute that is set."""
    request: dict[str, Any] = {"vf": index}
    if settings.mac is not None:
        request["mac"] = settings.mac
    if settings.vlan is not None:
        request["vlan"] = _vlan_request(settings.vlan)
    if settings.rate is not None:
        request["rate"] = {"min_tx_rate": settings.rate.min_mbit, "max_tx_rate": settings.rate.max_mbit}
    if settings.spoof_check is not None:
        request["spoofchk"] = int(settings.spoof_check)
    if settings.trust is not None:
        request["trust"] = int(settings.trust)
    if settings.link_state is not None:
        request["link_state"] = LINK_STATE[settings.link_state]
    return request


def _vlan_request(vlan: Vlan) -> Any:
    plain = {"vlan": vlan.id, "qos": vlan.qos}
    if vlan.id == 0 or vlan.protocol is VlanProtocol.DOT1Q:
        return plain
    return [{**plain, "proto": ETHERTYPE[vlan.protocol]}]
