# SPDX-License-Identifier: Apache-2.0
"""RTM_GETLINK: one link with the attributes of its VFs."""

import errno
import socket
import struct
from collections.abc import Mapping

from vfagent.frozen import frozen
from vfagent.kernel.netlink import NUMBER, ask, attribute, attributes, error, messages

EXT_VF, EXT_SKIP_STATS = 1, 8  # RTEXT_FILTER_*
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_PERM_ADDRESS = 1, 3, 4, 10, 54
IFLA_VFINFO_LIST, IFLA_VF_INFO = 22, 1
LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_RTM_GETLINK, _RTM_NEWLINK = 18, 16
_IFLA_NUM_VF, _IFLA_EXT_MASK = 21, 29
_IFLA_VF_MAC = 1
_LONGEST = 0xFFFF  # the longest attribute, and so the longest list of VFs

Attributes = Mapping[int, bytes]


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
    return link_in(ask(_RTM_GETLINK, LINK.pack(socket.AF_UNSPEC, 0, ifindex, 0, 0) + ext_mask))


def link_in(datagram: bytes) -> Link:
    """The link in an answer to RTM_GETLINK. Raises the kernel's OSError; EBADMSG where it is no such answer."""
    kind, _, body = next(messages(datagram), (0, 0, b""))
    if kind != _RTM_NEWLINK or len(body) < LINK.size:
        raise error(errno.EBADMSG)
    _, _, ifindex, flags, _ = LINK.unpack_from(body)
    link_attributes = dict(attributes(body, LINK.size))
    vfs = _vfs(link_attributes.get(IFLA_VFINFO_LIST, b""))
    if len(datagram) > _LONGEST and link_attributes.get(_IFLA_NUM_VF) != NUMBER.pack(len(vfs)):
        # Some kernels let the list grow beyond 64 KiB, and its 16-bit length wraps: what follows it is misread.
        raise error(errno.EMSGSIZE)
    return Link(ifindex, flags, link_attributes, vfs)


def _vfs(vfinfo_list: bytes) -> dict[int, Attributes]:
    infos = (dict(attributes(info)) for kind, info in attributes(vfinfo_list) if kind == IFLA_VF_INFO)
    return {NUMBER.unpack_from(mac)[0]: info for info in infos if len(mac := info.get(_IFLA_VF_MAC, b"")) >= 4}
