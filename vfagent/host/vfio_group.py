# SPDX-License-Identifier: Apache-2.0
"""The node of a VFIO group: the kernel makes it root's alone, and it is kvm's from when udev has come to it."""

import contextlib
import grp
import os
import stat
import struct
from pathlib import Path

_KVM = "kvm"
_ATTRIBUTE = "system.posix_acl_access"  # acl(5), and XATTR_NAME_POSIX_ACL_ACCESS in linux/xattr.h
_VERSION, _NOBODY = 2, 0xFFFFFFFF  # POSIX_ACL_XATTR_VERSION, ACL_UNDEFINED_ID
_USER_OBJ, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x04, 0x08, 0x10, 0x20
_READ_WRITE = 6
_AS_MADE = 0o600


def closed(node: Path) -> bool:
    """As devtmpfs makes it. Not to be seen, as where /dev/vfio came after the service, counts as closed."""
    try:
        return not node.stat().st_mode & stat.S_IWGRP
    except FileNotFoundError:
        return True


def open_to_kvm(node: Path) -> bool:
    """Let group kvm open it; false where that cannot be, or somebody has changed it since it was made.

    By an ACL, which its owner may set: to give it to the group takes CAP_CHOWN. udev's own owner and mode come on top.
    """
    with contextlib.suppress(OSError, KeyError):
        if stat.S_IMODE(node.stat().st_mode) == _AS_MADE:
            os.setxattr(node, _ATTRIBUTE, _acl(grp.getgrnam(_KVM).gr_gid))
            return True
    return False


def _acl(gid: int) -> bytes:
    entries = ((_USER_OBJ, _READ_WRITE, _NOBODY), (_GROUP_OBJ, 0, _NOBODY), (_GROUP, _READ_WRITE, gid))
    rest = ((_MASK, _READ_WRITE, _NOBODY), (_OTHER, 0, _NOBODY))
    return struct.pack("<I", _VERSION) + b"".join(struct.pack("<HHI", *entry) for entry in (*entries, *rest))
