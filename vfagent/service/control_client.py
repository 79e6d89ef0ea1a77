# SPDX-License-Identifier: Apache-2.0
"""Calls of the running service over its control socket, by Varlink; for the command line, so they block."""

import contextlib
import json
import socket
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from vfagent.errors import VfagentError
from vfagent.service.control_interface import SOCKET

_LONGEST_REPLY = 256 << 20  # of a status: 8,192 VFs have some 10 MiB
_PIECE = 1 << 16
_DENIED = "org.varlink.service.PermissionDenied"


class ErrorReplyError(VfagentError):
    """The service has answered with an error: its name and parameters."""

    def __init__(self, name: str, parameters: dict[str, Any]) -> None:
        super().__init__(f"{SOCKET}: the service answers {name} {parameters or ''}".rstrip())
        self.name, self.parameters = name, parameters


def listens(root: Path) -> bool:
    """Whether a service runs, as far as every user can see it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as service:
        try:
            service.connect(str(root / SOCKET))
        except BlockingIOError:
            return True  # with more clients than it takes at once
        except OSError:
            return False
    return True


def call(root: Path, method: str, **parameters: object) -> dict[str, Any]:
    """The parameters of the reply. Raises ErrorReplyError, VfagentError; FileNotFoundError where no service listens."""
    with contextlib.closing(_replies(root, method, parameters, more=False)) as replies:
        return next(replies)


def monitor(root: Path, method: str, until: float) -> Generator[dict[str, Any], None, None]:
    """Each reply, until the service ends. Raises TimeoutError at that time of CLOCK_MONOTONIC."""
    return _replies(root, method, {}, more=True, until=until)


def _replies(
    root: Path, method: str, parameters: dict[str, object], *, more: bool, until: float | None = None
) -> Generator[dict[str, Any], None, None]:
    call = {"method": method, "parameters": parameters} | ({"more": True} if more else {})
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as service:
            service.connect(str(root / SOCKET))
            service.sendall(json.dumps(call).encode() + b"\0")
            for message in _messages(service, until):
                reply = _decoded(message)
                yield reply["parameters"]
                if not reply.get("continues"):
                    return
    except (FileNotFoundError, TimeoutError):
        raise
    except ConnectionRefusedError as error:
        raise FileNotFoundError(error.errno, "no service listens") from error
    except OSError as error:
        hint = "run it as root" if isinstance(error, PermissionError) else "vfagent status shows whether it was done"
        raise VfagentError(f"{SOCKET}: cannot talk to the service: {error.strerror}", hint=hint) from error
    if not more:
        raise VfagentError(f"{SOCKET}: the service gave no answer", hint="vfagent status")


def _messages(service: socket.socket, until: float | None) -> Iterator[bytes]:
    rest = bytearray()
    while len(rest) < _LONGEST_REPLY:
        if until is not None:
            service.settimeout(max(until - time.monotonic(), 0.001))
        if not (piece := service.recv(_PIECE)):
            return
        *complete, rest = (rest + piece).split(b"\0") if b"\0" in piece else [rest + piece]
        yield from map(bytes, complete)


def _decoded(message: bytes) -> dict[str, Any]:
    try:
        reply = json.loads(message)
    except (ValueError, RecursionError):
        reply = None
    match reply:
        case {"error": str(name), **rest}:
            if name == _DENIED:
                raise VfagentError(f"{SOCKET}: the service refuses it", hint="run it as root")
            given = rest.get("parameters")
            raise ErrorReplyError(name, given if isinstance(given, dict) else {})
        case {"parameters": dict(), **_rest}:
            return dict(reply)
    raise VfagentError(f"{SOCKET}: the service gave an answer of another version", hint="systemctl restart vfagent")
