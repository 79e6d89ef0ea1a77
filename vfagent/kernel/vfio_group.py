# SPDX-License-Identifier: Apache-2.0
"""The device node of a VFIO group: the kernel makes it for root alone; for a guest it is opened to group kvm.

By an ACL, which the owner may set: to change its group takes CAP_CHOWN. It ends with the node, when the group's last
device leaves its VFIO driver.
"""

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
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_ROOT, _READ_WRITE = 0, 6
_AS_MADE = 0o600
# It gives root what root has as the owner. Nobody else writes such an entry, so it says whose the ACL is.
_MARK = struct.pack("<HHI", _USER, _READ_WRITE, _ROOT)


def udev_has_come(group: int, root: Path) -> bool:
    """Whether udev has initialized the node: it writes its database after it has applied the rules."""
    try:
        device = _node(group, root).stat().st_rdev
    except FileNotFoundError:  # the service does not see a /dev/vfio that was created after its start
        return False
    return (root / STORED / f"c{os.major(device)}:{os.minor(device)}").exists()


def node_exists(group: int, root: Path) -> bool:
    return _node(group, root).exists()


def open_to_kvm(group: int, root: Path) -> bool:
    """Let group kvm open the node; false where it cannot, or where somebody has given it another mode.

    A mode that udev sets later becomes the ACL's mask, and the group that udev sets has the access of that mode.
    """
    node = _node(group, root)
    with contextlib.suppress(OSError, KeyError):
        kvm = grp.getgrnam(_KVM).gr_gid
        status = node.stat()
        mode = stat.S_IMODE(status.st_mode)
        if mode == _AS_MADE:
            os.setxattr(node, _ATTRIBUTE, _acl(kvm))
        elif mode & 0o006 == 0o006 or (status.st_gid == kvm and mode & 0o060 == 0o060):
            return True
        return os.getxattr(node, _ATTRIBUTE) == _acl(kvm)
    return False


def opened_to_kvm(root: Path) -> set[int]:
    """The groups whose nodes `open_to_kvm` has opened."""
    try:
        names = os.listdir(root / "dev/vfio")
    except OSError:
        return set()
    return {int(name) for name in names if name.isdecimal() and _is_marked(_node(int(name), root))}


def close_to_kvm(group: int, root: Path) -> None:
    """As the kernel made it. Raises OSError."""
    node = _node(group, root)
    os.removexattr(node, _ATTRIBUTE)
    node.chmod(_AS_MADE)  # the mask stays as the group's mode


def _is_marked(node: Path) -> bool:
    try:
        return _MARK in os.getxattr(node, _ATTRIBUTE)
    except OSError:
        return False


def _node(group: int, root: Path) -> Path:
    return root / f"dev/vfio/{group}"


def _acl(gid: int) -> bytes:
    entries = ((_GROUP_OBJ, _NOBODY), (_GROUP, gid), (_MASK, _NOBODY))
    granted = b"".join(struct.pack("<HHI", tag, _READ_WRITE, who) for tag, who in entries)
    owner = struct.pack("<IHHI", _VERSION, _USER_OBJ, _READ_WRITE, _NOBODY)
    return owner + _MARK + granted + struct.pack("<HHI", _OTHER, 0, _NOBODY)
