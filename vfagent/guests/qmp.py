# SPDX-License-Identifier: Apache-2.0
"""Asks a guest to power down, and waits until its QEMU is gone: `python3 -m vfagent.guests.qmp stop SOCKET SECONDS`.

It is a guest unit's ExecStop: when that ends, systemd sends SIGTERM, so it must not end before QEMU does.
What QEMU says is not read for its sense: a guest may have broken out into it.
"""

import os
import socket
import sys
import time
from pathlib import Path

_AGAIN_S = 10.0  # a guest that is still booting does not hear the first
_COMMANDS = b'{"execute":"qmp_capabilities"}\n{"execute":"system_powerdown"}\n'


def stop(path: str, seconds: float) -> bool:
    """Whether QEMU has gone in time. One that does not answer its socket is gone."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        try:
            if _gone(path, min(left, _AGAIN_S)):
                return True
        except OSError:
            return True
    return False


def _gone(path: str, seconds: float) -> bool:
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
    """Since this process was made: on a busy host Python takes seconds to start, which systemd counts too."""
    after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started = int(after_name[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def main(argv: list[str]) -> int:
    if len(argv) != 3 or argv[0] != "stop":
        print("usage: python3 -m vfagent.guests.qmp stop SOCKET SECONDS", file=sys.stderr)
        return 2
    if not stop(argv[1], float(argv[2]) - age_s()):
        print(f"the guest has not powered down within {argv[2]} s; it is ended", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
