# SPDX-License-Identifier: Apache-2.0
"""RTM_GETLINK and RTM_NEWLINK for one link: its MTU, its state, and the attributes of its VFs (linux/if_link.h)."""

import errno
import socket
import struct
from collections.abc import Mapping

from vfagent.frozen import frozen
from vfagent.kernel.netlink import NUMBER, ask, attribute, attributes, error, messages, order
from vfagent.kernel.protocols import LinkFacts
from vfagent.kernel.vf_attributes import IFLA_VF_MAC, Attributes, unpacked, vf_infos
from vfagent.model.vf_settings import VfSettings

EXT_VF, EXT_SKIP_STATS = 1, 8  # RTEXT_FILTER_*
_RTM_NEWLINK, _RTM_GETLINK = 16, 18
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_PERM_ADDRESS = 1, 3, 4, 10, 54
_IFLA_PROP_LIST, _IFLA_ALT_IFNAME = 52, 53  # since Linux 5.5
_IFLA_NUM_VF, _IFLA_VFINFO_LIST, _IFLA_EXT_MASK = 21, 22, 29
_IFLA_VF_INFO = 1
_INFINIBAND_ALEN = 20  # of IPoIB alone (linux/if_infiniband.h)
_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000
_LONGEST = 0xFFFF  # the longest attribute, and so the longest list of VFs


@frozen(slots=True)
class Link:
    """An RTM_NEWLINK with its attributes as bytes; `vfs` has those of each VF, by index."""

    ifindex: int
    flags: int
    attributes: Attributes
    vfs: Mapping[int, Attributes]


def get_link(ifindex: int, mask: int = 0) -> Link:
    """Raises the kernel's OSError; EMSGSIZE where one message cannot hold all VFs."""
    ext_mask = attribute(_IFLA_EXT_MASK, NUMBER.pack(mask))
    return link_in(ask(_RTM_GETLINK, _LINK.pack(socket.AF_UNSPEC, 0, ifindex, 0, 0) + ext_mask))


def link_in(datagram: bytes) -> Link:
    """The link in an answer to RTM_GETLINK. Raises the kernel's OSError; EBADMSG where it is no such answer."""
    kind, _, body = next(messages(datagram), (0, 0, b""))
    if kind != _RTM_NEWLINK or len(body) < _LINK.size:
        raise error(errno.EBADMSG)
    _, _, ifindex, flags, _ = _LINK.unpack_from(body)
    link_attributes = dict(attributes(body, _LINK.size))
    vfs = _vfs(link_attributes.get(_IFLA_VFINFO_LIST, b""))
    if len(datagram) > _LONGEST and link_attributes.get(_IFLA_NUM_VF) != NUMBER.pack(len(vfs)):
        # Some kernels let the list grow beyond 64 KiB, and its 16-bit length wraps: what follows it is misread.
        raise error(errno.EMSGSIZE)
    return Link(ifindex, flags, link_attributes, vfs)


def _vfs(vfinfo_list: bytes) -> dict[int, Attributes]:
    infos = (dict(attributes(info)) for kind, info in attributes(vfinfo_list) if kind == _IFLA_VF_INFO)
    return {NUMBER.unpack_from(mac)[0]: info for info in infos if len(mac := info.get(IFLA_VF_MAC, b"")) >= 4}


def link_facts(link: Link) -> LinkFacts:
    attribute_of = link.attributes.get
    infiniband = len(attribute_of(_IFLA_ADDRESS, b"")) == _INFINIBAND_ALEN
    return LinkFacts(
        ifindex=link.ifindex,
        name=_name(attribute_of(_IFLA_IFNAME, b"")),
        mac=attribute_of(_IFLA_ADDRESS, b"").hex(":"),
        permanent_mac=attribute_of(_IFLA_PERM_ADDRESS, b"").hex(":") or None,
        mtu=_number(attribute_of(_IFLA_MTU)) or 0,
        admin_up=bool(link.flags & _IFF_UP),
        carrier=bool(link.flags & _IFF_LOWER_UP),
        master=_number(attribute_of(_IFLA_MASTER)),
        altnames=tuple(
            _name(data) for kind, data in attributes(attribute_of(_IFLA_PROP_LIST, b"")) if kind == _IFLA_ALT_IFNAME
        ),
        vfs={index: unpacked(info, infiniband=infiniband) for index, info in link.vfs.items()},
    )


def _name(data: bytes) -> str:
    return data.rstrip(b"\0").decode("utf-8", "surrogateescape")


def _number(data: bytes | None) -> int | None:
    return int(NUMBER.unpack_from(data)[0]) if data and len(data) >= NUMBER.size else None


def set_mtu(ifindex: int, mtu: int) -> None:
    _set(ifindex, attribute(_IFLA_MTU, NUMBER.pack(mtu)))


def set_admin_state(ifindex: int, *, up: bool) -> None:
    _set(ifindex, flags=_IFF_UP if up else 0, change=_IFF_UP)


def set_vfs(ifindex: int, settings: Mapping[int, VfSettings]) -> None:
    infos = (info for index, wanted in settings.items() for info in vf_infos(index, wanted))
    _set(ifindex, attribute(_IFLA_VFINFO_LIST, b"".join(attribute(_IFLA_VF_INFO, info) for info in infos)))


def _set(ifindex: int, link_attributes: bytes = b"", *, flags: int = 0, change: int = 0) -> None:
    order(_RTM_NEWLINK, _LINK.pack(socket.AF_UNSPEC, 0, ifindex, flags, change) + link_attributes)
