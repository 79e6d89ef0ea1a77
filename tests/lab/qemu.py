# SPDX-License-Identifier: Apache-2.0
"""QEMU as a process, in the tools root, with its own mount and network namespaces."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.debian import entry

# Where QEMU, in its root, sees the VM's folder and the image's.
VM = "/lab/vm"
IMAGE = "/lab/image"
WARM = "/lab/warm"
SSH_PORT = 2222

# A bridge that connects all NICs, in a network namespace that ends with QEMU.
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


@dataclass(frozen=True, slots=True)
class Place:
    """The root of QEMU, the VM's folder, and further mounts."""

    root: Path
    folder: Path
    binds: Mapping[Path, str]

    def start(self, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        """Starts QEMU; its output goes to qemu.log in the VM's folder."""
        argv = [*self._inside(), "sh", "-c", _WIRE, "sh", "qemu-system-x86_64", *arguments]
        with (self.folder / "qemu.log").open("ab") as log:
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def make_overlay(self, backing: str, form: str) -> None:
        """A disk of the VM, on top of a backing file."""
        overlay = ["-b", backing, "-F", form, f"{VM}/root.qcow2"]
        argv = [*self._inside(), "qemu-img", "create", "-q", "-f", "qcow2", *overlay]
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)

    def _inside(self) -> list[str]:
        dies_with_us = ["setpriv", "--pdeathsig", "KILL"]
        return [*dies_with_us, *entry(self.root, {self.folder: VM, **self.binds}, network=False)]
