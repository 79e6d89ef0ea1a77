# SPDX-License-Identifier: Apache-2.0
"""Files below a root. In a tree copied from another host, nothing may lead out of it, or block."""

import errno
import os
import stat
from pathlib import Path


def leaves(root: str, path: str) -> bool:
    """Whether a link of a copied tree, or "..", leads out of it: to this host's files, or to a device.

    `root` itself is free of links.
    """
    if root == "/":
        return False
    real = os.path.realpath(path)
    return real != root and not real.startswith(f"{root}/")


def read_regular(root: Path, path: Path, most: int) -> bytes:
    """At most so many bytes of a regular file. Raises OSError."""
    if root != Path("/") and leaves(os.path.realpath(root), str(path)):
        raise OSError(errno.ELOOP, "it is a symbolic link that leaves the tree", str(path))
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        with open(fd, "rb", closefd=False) as file:
            return file.read(most)
    finally:
        os.close(fd)
