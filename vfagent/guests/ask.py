# SPDX-License-Identifier: Apache-2.0
"""Ask a guest's QEMU whether it runs: `/usr/libexec/vfagent/ask-guest SOCKET`. The exit status is the answer.

It is the ExecReload of a guest's unit, as only the guest's user may open the socket. A guest may have broken out into
QEMU: of what comes, a bounded piece is searched for a known word. It can lie about nobody but itself.
"""

import re
import socket
import sys
import time

from vfagent.model.guest_unit import RUN_STATES

_ANSWER_S = 3.0  # QEMU's main loop may hang on a disk
_LONGEST = 1 << 16
_COMMANDS = b'{"execute":"qmp_capabilities"}\n{"execute":"query-status"}\n'
_STATUS = re.compile(rb'"status": ?"([a-z-]{1,32})"')
_UNKNOWN = 1


def ask(path: str) -> str | None:
    """QEMU's run state; None where it does not say."""
    end, data = time.monotonic() + _ANSWER_S, b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as qmp:
            qmp.settimeout(_ANSWER_S)
            qmp.connect(path)
            qmp.sendall(_COMMANDS)
            while len(data) < _LONGEST and (left := end - time.monotonic()) > 0:
                qmp.settimeout(left)
                piece = qmp.recv(4096)
                data += piece
                if answer := _STATUS.search(data):
                    return answer[1].decode("ascii")
                if not piece:
                    break
    except OSError:
        pass
    return None


def main(argv: list[str]) -> int:
    if len(argv) != 1:
        print("usage: ask-guest SOCKET", file=sys.stderr)
        return 2
    return RUN_STATES.get(ask(argv[0]) or "", _UNKNOWN)
