# SPDX-License-Identifier: Apache-2.0
"""Ask a guest to power down, and wait until its QEMU has exited: `/usr/libexec/vfagent/stop-guest SOCKET SECONDS`.

It is the ExecStop of a guest's unit: when that ends, systemd sends SIGTERM, so it must not end before QEMU does.
What QEMU answers is not parsed: a guest may have broken out into QEMU.
"""

import os
import socket
import sys
import time
from pathlib import Path

_AGAIN_S = 10.0  # a guest that is still booting ignores the first request
_COMMANDS = b'{"execute":"qmp_capabilities"}\n{"execute":"system_powerdown"}\n'


def stop(path: str, seconds: float) -> bool:
    """Whether QEMU has exited in time. Where nothing accepts connections on its socket, it has."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        try:
            if _exited(path, min(left, _AGAIN_S)):
                return True
        except OSError:
            return True
    return False


def _exited(path: str, seconds: float) -> bool:
    end = time.monotonic() + seconds
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as qmp:
        qmp.settimeout(seconds)
        qmp.connect(path)
        qmp.sendall(_COMMANDS)
        while (left := end - time.monotonic()) > 0:
            qmp.settimeout(left)
            try:
                if not qmp.recv(1 << 16):
                    return True
            except TimeoutError:
                return False
    return False


def age_s() -> float:
    """Since this process was forked. On a busy host Python takes seconds to start, which systemd's timeout counts."""
    after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started = int(after_name[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def main(argv: list[str]) -> int:
    if len(argv) != 2:
        print("usage: stop-guest SOCKET SECONDS", file=sys.stderr)
        return 2
    path, seconds = argv
    if not stop(path, float(seconds) - age_s()):
        print(f"the guest did not power down within {seconds} s; systemd kills it", file=sys.stderr)
    return 0
