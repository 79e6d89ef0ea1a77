# SPDX-License-Identifier: Apache-2.0
"""Who uses block and RDMA devices: the host's mounts and swap areas, from /proc, and what rdma-netlink says."""

import re
from collections.abc import Mapping
from pathlib import Path

from vfagent.kernel.protocols import Mount, RdmaDevice
from vfagent.kernel.rdma import rdma_devices, rdma_services
from vfagent.kernel.rooted import read_regular

# The service has a mount namespace of its own, without what is below /home and /tmp; systemd's has all. /proc/mounts,
# without device numbers, may be all that a copied tree has.
_MOUNTS = ("proc/1/mountinfo", "proc/self/mountinfo", "proc/mounts")
_SWAPS = "proc/swaps"
_MOST_BYTES = 1 << 24  # 100,000 mounts
_ESCAPED = re.compile(r"\\([0-7]{3})")


class KernelDeviceUsers:
    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def mounts(self) -> tuple[Mount, ...] | None:
        for path in _MOUNTS:
            if text := self._text(path):
                lines = (line.split() for line in text.splitlines())
                parse = _mount if path == "proc/mounts" else _mountinfo
                return tuple(mount for words in lines if (mount := parse(words)))
        return None

    def swaps(self) -> tuple[str, ...] | None:
        text = self._text(_SWAPS)
        # The first line names the columns.
        return tuple(_plain(line.split()[0]) for line in text.splitlines()[1:] if line.strip()) if text else None

    def rdma_devices(self) -> Mapping[str, RdmaDevice] | None:
        if self._root != Path("/"):
            return None
        try:
            return rdma_devices()
        except OSError:
            return None

    def rdma_services(self, index: int) -> tuple[str, ...] | None:
        try:
            return rdma_services(index)
        except OSError:
            return None

    def _text(self, path: str) -> str | None:
        try:
            return read_regular(self._root, self._root / path, _MOST_BYTES).decode("utf-8", "surrogateescape")
        except OSError:
            return None


def _mountinfo(words: list[str]) -> Mount | None:
    """`36 35 98:0 /root /point options [optional fields] - type source options` (proc_pid_mountinfo(5))."""
    if "-" not in words[6:]:
        return None
    at = words.index("-", 6)
    if len(words) < at + 3:
        return None
    return Mount(words[2], _plain(words[at + 2]), _plain(words[4]), words[at + 1])


def _mount(words: list[str]) -> Mount | None:
    return Mount(None, _plain(words[0]), _plain(words[1]), words[2]) if len(words) > 2 else None


def _plain(text: str) -> str:
    """Spaces and the like are octal in these files."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), text)
