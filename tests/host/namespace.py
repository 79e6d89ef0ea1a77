# SPDX-License-Identifier: Apache-2.0
"""Network and mount namespaces for this process, as a context manager."""

import ctypes
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_CLONE_FS, _CLONE_NEWNS, _CLONE_NEWNET = 0x00000200, 0x00020000, 0x40000000
# A new network namespace copies these from the host's (net.core.devconf_inherit_init_net); here are the kernel's own
# defaults. systemd's 50-default.conf, for one, sets rp_filter and promote_secondaries.
_IPV4 = {"arp_announce": 0, "arp_filter": 0, "arp_ignore": 0, "forwarding": 0, "promote_secondaries": 0, "rp_filter": 0}
_IPV6 = {"accept_dad": 1, "addr_gen_mode": 0, "disable_ipv6": 0, "forwarding": 0, "use_tempaddr": 0}
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
            for family, values in (("ipv4", _IPV4), ("ipv6", _IPV6)):
                _set_defaults(family, values)
            os.makedirs("/run/udev/data")
            # Without it libudev's monitor gets no events.
            with open("/run/udev/control", "w"):
                pass
            yield
        finally:
            # A thread that still ends shares the root and working directory: setns(2) then refuses a mount namespace.
            _call("unshare", _CLONE_FS)
            for kind, fd in before.items():
                _call("setns", fd, kind)
            os.chdir(folder)
    finally:
        for fd in before.values():
            os.close(fd)


def _set_defaults(family: str, values: dict[str, int]) -> None:
    """For the links to come; `all` of IPv4's adds to each link's own value (ip-sysctl.rst)."""
    for scope in ("all", "default"):
        for name, value in values.items():
            with open(f"/proc/sys/net/{family}/conf/{scope}/{name}", "w") as file:
                file.write(str(value))


def run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def ip(*argv: str) -> None:
    run("ip", *argv)


def link(name: str) -> dict[str, Any]:
    """A netdev as iproute2 shows it."""
    shown: dict[str, Any] = json.loads(run("ip", "-json", "link", "show", "dev", name))[0]
    return shown


def add_veth(name: str, peer: str, *, up: bool = False) -> int:
    ip("link", "add", name, "type", "veth", "peer", "name", peer)
    if up:
        ip("link", "set", name, "up")
        ip("link", "set", peer, "up")
    return int(link(name)["ifindex"])
