# SPDX-License-Identifier: Apache-2.0
"""rtnetlink: links and their VFs, read and set."""

import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from vfagent.kernel import links, management
from vfagent.kernel.iproute import ask, rtnetlink
from vfagent.kernel.links import EXT_SKIP_STATS, EXT_VF, get_link, link_facts
from vfagent.kernel.netlink import attributes, dump
from vfagent.kernel.protocols import LinkFacts
from vfagent.model.vf_settings import VfSettings

_RTM_GETADDR = 22
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg
_SCOPE_LINK = 253
_IFA_PROTO, _BY_ROUTER = 11, bytes([2])  # IFAPROT_KERNEL_RA; from Linux 5.18 on
_AF_BRIDGE = 7
_HWMODES = {0: "veb", 1: "vepa"}


class KernelRtnl:
    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def link(self, ifindex: int, *, vfs: bool) -> LinkFacts | None:
        try:
            # Statistics double the message, which ends at 64 KiB.
            return link_facts(get_link(ifindex, EXT_VF | EXT_SKIP_STATS if vfs else EXT_SKIP_STATS))
        except OSError:
            # EMSGSIZE: too many VFs for one message. Then the link without them.
            return link_facts(get_link(ifindex, EXT_SKIP_STATS)) if vfs else None

    def set_vfs(self, ifindex: int, settings: Mapping[int, VfSettings]) -> None:
        links.set_vfs(ifindex, settings)

    def set_mtu(self, ifindex: int, mtu: int) -> None:
        links.set_mtu(ifindex, mtu)

    def set_admin_state(self, ifindex: int, *, up: bool) -> None:
        links.set_admin_state(ifindex, up=up)

    def hwmode(self, ifindex: int) -> str | None:
        """The embedded switch's mode. Only a dump of all bridge-capable netdevs has it: the kernel has no filter."""
        with rtnetlink() as ip:
            messages = ask(lambda: list(ip.link("dump", family=_AF_BRIDGE)))
        specs = (message.get_attr("IFLA_AF_SPEC") for message in messages if message["index"] == ifindex)
        modes = (spec.get_attr("IFLA_BRIDGE_MODE") for spec in specs if hasattr(spec, "get_attr"))
        return next((_HWMODES[mode] for mode in modes if mode in _HWMODES), None)

    def addressed(self) -> frozenset[int]:
        return frozenset(ifindex for ifindex, _ in self._addresses())

    def _addresses(self) -> Iterator[tuple[int, bool]]:
        """The interface of each address that is not link-local, and whether the kernel made it of an advertisement."""
        for body in dump(_RTM_GETADDR, bytes([socket.AF_UNSPEC])):
            if len(body) < _ADDRESS.size:
                continue
            _, _, _, scope, ifindex = _ADDRESS.unpack_from(body)
            if scope < _SCOPE_LINK:
                yield ifindex, dict(attributes(body, _ADDRESS.size)).get(_IFA_PROTO) == _BY_ROUTER

    def configured(self) -> frozenset[int]:
        return frozenset(ifindex for ifindex, by_router in self._addresses() if not by_router)

    def management(self) -> Mapping[int, str]:
        return management.management(self._root)
