# SPDX-License-Identifier: Apache-2.0
"""Taps: each exists while somebody has it open (Documentation/networking/tuntap.rst), and is a port of a bridge."""

import errno
import fcntl
import os
import struct

from vfagent.kernel.iproute import ask, rtnetlink, setter
from vfagent.model.network import MANAGED_ALIAS, Link

_CLONE = "/dev/net/tun"
_TUNSETIFF = 0x400454CA  # linux/if_tun.h
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
_IFREQ = struct.Struct("16sH22x")
_PVID, _UNTAGGED = 0x2, 0x4  # BRIDGE_VLAN_INFO_*, linux/if_bridge.h


def open_tap(name: str) -> int:
    """Make it, with the headers of virtio. Raises OSError."""
    fd = os.open(_CLONE, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, _IFREQ.pack(name.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR))
    except OSError:
        os.close(fd)
        raise
    return fd


def join(tap: Link, bridge: Link, *, mac: str, vlan: int | None, default_vlan: int | None) -> None:
    """It comes up last, so that no frame passes in another VLAN. Raises OSError.

    A bridge has the smallest MTU of its ports, unless somebody has set one, so that the tap gets the bridge's.
    """
    setter(index=tap.ifindex, state="down")
    setter(index=tap.ifindex, address=mac, mtu=bridge.mtu, ifalias=MANAGED_ALIAS, master=bridge.ifindex)
    if vlan is not None and vlan != default_vlan:
        flags = {"vid": vlan, "flags": _PVID | _UNTAGGED}
        with rtnetlink() as ip:
            ask(lambda: ip.vlan_filter("add", index=tap.ifindex, vlan_info=flags))
            _leave_vlan(ip, tap.ifindex, default_vlan)
    setter(index=tap.ifindex, state="up")


def _leave_vlan(ip: object, ifindex: int, vlan: int | None) -> None:
    """A new port is in the bridge's default VLAN."""
    if vlan is None:
        return
    try:
        ask(lambda: ip.vlan_filter("del", index=ifindex, vlan_info={"vid": vlan, "flags": 0}))  # type: ignore[attr-defined]
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise


def set_down(tap: Link) -> None:
    setter(index=tap.ifindex, state="down")
