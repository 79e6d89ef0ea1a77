# SPDX-License-Identifier: Apache-2.0
"""QEMU as a process: in the tools root, with mounts and a network of its own."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.lab.debian import entry
from tests.lab.image import Image

# Where QEMU, in its root, sees the VM's folder and the image's.
VM = "/lab/vm"
IMAGE = "/lab/image"
SSH_PORT = 2222

# One wire that all NICs hang on, in a network namespace that ends with QEMU.
_WIRE = f"""
set -e
cat >{VM}/ifup <<'end'
#!/bin/sh
exec ip link set dev "$1" master wire up
end
chmod +x {VM}/ifup
echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
ip link set lo up
ip link add wire type bridge
ip link set wire up
exec "$@"
"""


def _inside(image: Image, folder: Path) -> list[str]:
    binds = {folder: VM, image.directory: IMAGE}
    dies_with_us = ["setpriv", "--pdeathsig", "KILL"]
    return [*dies_with_us, *entry(image.tools, binds, network=False)]


def start(image: Image, folder: Path, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """Starts QEMU; its output goes to qemu.log in the VM's folder."""
    argv = [*_inside(image, folder), "sh", "-c", _WIRE, "sh", "qemu-system-x86_64", *arguments]
    with (folder / "qemu.log").open("ab") as log:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def make_overlay(image: Image, folder: Path) -> None:
    """A disk of the VM's own, over the image's."""
    backing = ["-b", f"{IMAGE}/disk.raw", "-F", "raw", f"{VM}/root.qcow2"]
    argv = [*_inside(image, folder), "qemu-img", "create", "-q", "-f", "qcow2", *backing]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
