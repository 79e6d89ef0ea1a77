# SPDX-License-Identifier: Apache-2.0
"""The device node of a VFIO group: the kernel creates it for root alone; udev's rule opens it to group kvm."""

import contextlib
import grp
import os
import stat
import struct
from pathlib import Path

from vfagent.kernel.udev import STORED

_KVM = "kvm"
_ATTRIBUTE = "system.posix_acl_access"  # acl(5), and XATTR_NAME_POSIX_ACL_ACCESS in linux/xattr.h
_VERSION, _NOBODY = 2, 0xFFFFFFFF  # POSIX_ACL_XATTR_VERSION, ACL_UNDEFINED_ID
_USER_OBJ, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x04, 0x08, 0x10, 0x20
_READ_WRITE = 6
_AS_MADE = 0o600


def udev_has_come(group: int, root: Path) -> bool:
    """Whether udev has initialized the node: it writes its database after it has applied the rules."""
    try:
        device = _node(group, root).stat().st_rdev
    except FileNotFoundError:  # the service does not see a /dev/vfio that was created after its start
        return False
    return (root / STORED / f"c{os.major(device)}:{os.minor(device)}").exists()


def open_to_kvm(group: int, root: Path) -> bool:
    """Let group kvm open the node; false where it cannot, or where its mode has changed since its creation.

    By an ACL, which the owner may set: to change its group takes CAP_CHOWN. Later udev's mode becomes the ACL's mask,
    and the group that udev sets has the access of that mode.
    """
    node = _node(group, root)
    with contextlib.suppress(OSError, KeyError):
        acl = _acl(grp.getgrnam(_KVM).gr_gid)
        if stat.S_IMODE(node.stat().st_mode) == _AS_MADE:
            os.setxattr(node, _ATTRIBUTE, acl)
        return os.getxattr(node, _ATTRIBUTE) == acl
    return False


def _node(group: int, root: Path) -> Path:
    return root / f"dev/vfio/{group}"


def _acl(gid: int) -> bytes:
    own = ((tag, _READ_WRITE, _NOBODY) for tag in (_USER_OBJ, _GROUP_OBJ))
    entries = (*own, (_GROUP, _READ_WRITE, gid), (_MASK, _READ_WRITE, _NOBODY), (_OTHER, 0, _NOBODY))
    return struct.pack("<I", _VERSION) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
