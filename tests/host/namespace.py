# SPDX-License-Identifier: Apache-2.0
"""This process in network and mount namespaces of its own, for a while."""

import ctypes
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


@contextmanager
def private_kernel() -> Iterator[None]:
    """An empty network, with its own /sys, and a /run in which a udev daemon seems to be at work."""
    spaces = {_CLONE_NEWNS: "/proc/self/ns/mnt", _CLONE_NEWNET: "/proc/self/ns/net"}
    before = {kind: os.open(path, os.O_RDONLY | os.O_CLOEXEC) for kind, path in spaces.items()}
    folder = os.getcwd()
    try:
        _call("unshare", _CLONE_NEWNS | _CLONE_NEWNET)
        try:
            run("mount", "--make-rprivate", "/")
            run("mount", "-t", "sysfs", "none", "/sys")
            run("mount", "-t", "tmpfs", "none", "/run")
            os.makedirs("/run/udev/data")
            # libudev's monitor stays deaf without it.
            with open("/run/udev/control", "w"):
                pass
            yield
        finally:
            for kind, fd in before.items():
                _call("setns", fd, kind)
            os.chdir(folder)
    finally:
        for fd in before.values():
            os.close(fd)


def run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def ip(*argv: str) -> None:
    run("ip", *argv)


def link(name: str) -> dict[str, Any]:
    """What iproute2 says of a netdev."""
    found: dict[str, Any] = json.loads(run("ip", "-json", "link", "show", "dev", name))[0]
    return found


def add_veth(name: str, peer: str, *, up: bool = False) -> int:
    ip("link", "add", name, "type", "veth", "peer", "name", peer)
    if up:
        ip("link", "set", name, "up")
        ip("link", "set", peer, "up")
    return int(link(name)["ifindex"])
