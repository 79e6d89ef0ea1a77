# SPDX-License-Identifier: Apache-2.0
"""rtnetlink: links and their VFs, read and set."""

from collections.abc import Mapping
from pathlib import Path

from vfagent.host import access, setlink
from vfagent.host.getaddr import addressed
from vfagent.host.getlink import EXT_SKIP_STATS, EXT_VF, get_link
from vfagent.host.host import LinkFacts
from vfagent.host.iproute import ask, rtnetlink
from vfagent.host.link_facts import link_facts
from vfagent.model.vf_settings import VfSettings

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
            # EMSGSIZE: too many VFs for one message. The link alone is still worth knowing.
            return link_facts(get_link(ifindex, EXT_SKIP_STATS)) if vfs else None

    def set_vfs(self, ifindex: int, settings: Mapping[int, VfSettings]) -> None:
        setlink.set_vfs(ifindex, settings)

    def set_mtu(self, ifindex: int, mtu: int) -> None:
        setlink.set_mtu(ifindex, mtu)

    def set_admin_state(self, ifindex: int, *, up: bool) -> None:
        setlink.set_admin_state(ifindex, up=up)

    def hwmode(self, ifindex: int) -> str | None:
        """The embedded switch's mode. Only a dump of all bridge-capable netdevs tells; the kernel cannot filter it."""
        with rtnetlink() as ip:
            messages = ask(lambda: list(ip.link("dump", family=_AF_BRIDGE)))
        ours = (message.get_attr("IFLA_AF_SPEC") for message in messages if message["index"] == ifindex)
        modes = (spec.get_attr("IFLA_BRIDGE_MODE") for spec in ours if hasattr(spec, "get_attr"))
        return next((_HWMODES[mode] for mode in modes if mode in _HWMODES), None)

    def addressed(self) -> frozenset[int]:
        return addressed()

    def management(self) -> Mapping[int, str]:
        return access.management(self._root)
