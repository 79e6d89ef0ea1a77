# SPDX-License-Identifier: Apache-2.0
"""A tree that was copied from another host: sysfs speaks for rtnetlink, and nothing can be changed."""

import errno
import os
from collections.abc import Mapping

from vfagent.host.host import LinkFacts, Sysfs
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import VfSettings


class SysfsRtnl:
    def __init__(self, sysfs: Sysfs) -> None:
        self._sysfs = sysfs

    def link(self, ifindex: int, *, vfs: bool) -> LinkFacts | None:
        for name in self._sysfs.names("sys/class/net"):
            base = f"sys/class/net/{name}"
            if self._sysfs.read(f"{base}/ifindex") == str(ifindex):
                return self._facts(base, name, ifindex)
        return None

    def _facts(self, base: str, name: str, ifindex: int) -> LinkFacts:
        master = self._sysfs.read(f"{base}/master/ifindex")
        mac = self._sysfs.read(f"{base}/address") or ""
        return LinkFacts(
            ifindex=ifindex,
            name=name,
            mac=mac,
            permanent_mac=mac or None,
            mtu=int(self._sysfs.read(f"{base}/mtu") or 0),
            admin_up=bool(int(self._sysfs.read(f"{base}/flags") or "0", 0) & 1),
            carrier=self._sysfs.read(f"{base}/carrier") == "1",
            master=int(master) if master else None,
        )

    def hwmode(self, ifindex: int) -> str | None:
        return None

    def addressed(self) -> frozenset[int]:
        return frozenset()

    def management(self) -> Mapping[int, str]:
        return {}

    def set_vfs(self, ifindex: int, settings: Mapping[int, VfSettings]) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def set_mtu(self, ifindex: int, mtu: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def set_admin_state(self, ifindex: int, *, up: bool) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))


class NoDevlink:
    def eswitch_mode(self, address: PciAddress) -> str | None:
        return None
