# SPDX-License-Identifier: Apache-2.0
"""The node of a VFIO group: the kernel makes it root's alone, and udev, when it comes to it, kvm's."""

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
    """It stores what it knows of a device once its node is as the rules say."""
    try:
        device = _node(group, root).stat().st_rdev
    except FileNotFoundError:  # /dev/vfio came after the service, which does not see it
        return False
    return (root / STORED / f"c{os.major(device)}:{os.minor(device)}").exists()


def open_to_kvm(group: int, root: Path) -> bool:
    """Let group kvm open it; false where that cannot be, or somebody has changed its mode since it was made.

    By an ACL, which its owner may set: to give it to kvm takes CAP_CHOWN. udev's mode becomes the ACL's mask, and the
    group that udev gives it to has what the mode says.
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
