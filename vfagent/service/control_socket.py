# SPDX-License-Identifier: Apache-2.0
"""The agent's control socket, for requests about guests: one line of JSON in, one line out.

Only root can connect: by the mode of the socket and of its folder, and by the peer's credentials (SO_PEERCRED).
"""

import asyncio
import contextlib
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

from vfagent.errors import VfagentError

log = logging.getLogger(__name__)

SOCKET = "run/vfagent/control.sock"
_LONGEST_LINE = 4096
_LONGEST_ANSWER = 1 << 16  # a guest's name, and a sentence for each of its VFs
_LINE_S = 5.0
_MOST_AT_ONCE = 16
_MOST_OPEN = 256  # those beyond _MOST_AT_ONCE wait; each has a descriptor
_TOO_MANY = "the service has too many requests"
_CREDENTIALS = struct.Struct("=iII")

Handler = Callable[[str, str], Awaitable[str | None]]


class ControlServer:
    """`handler` gets a verb and a guest's name, and returns what blocks it, or None."""

    def __init__(self, root: Path, handler: Handler) -> None:
        self._path, self._handler = root / SOCKET, handler
        self._server: asyncio.Server | None = None
        self._stopped = False
        self._open = 0
        self._limit = asyncio.Semaphore(_MOST_AT_ONCE)

    async def start(self) -> None:
        """Listens, unless it does already. Where it cannot, the agent does everything else."""
        if self._server is None and not self._stopped and (listener := self._listen()):
            self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=_LONGEST_LINE)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What a worker must close: a client of a worker that outlives the service would get no answer."""
        return tuple(listener.fileno() for listener in self._server.sockets) if self._server else ()

    def _listen(self) -> socket.socket | None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._path.unlink(missing_ok=True)
            listener.bind(str(self._path))
            os.chmod(self._path, 0o600)
        except OSError as error:
            listener.close()
            log.error("cannot listen at %s: %s; no vfagent guest start and stop", self._path, error.strerror)
            return None
        return listener

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if _allowed(writer.get_extra_info("socket")):
                await self._answer(reader, writer)
        except (OSError, ValueError, RecursionError, TimeoutError, asyncio.IncompleteReadError):
            pass  # not a vfagent command, or it has ended
        finally:
            self._open -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await asyncio.wait_for(reader.readline(), _LINE_S)
        request = json.loads(line)
        if not isinstance(request, dict) or request.get("verb") not in ("start", "stop"):
            return
        blocker = await self._handle(request["verb"], str(request.get("guest")))
        writer.write(json.dumps({"blocker": blocker}).encode() + b"\n")
        await writer.drain()

    async def _handle(self, verb: str, guest: str) -> str | None:
        if self._open > _MOST_OPEN:
            return _TOO_MANY
        async with self._limit:
            return await self._handler(verb, guest)

    def stop(self) -> None:
        self._stopped = True
        if self._server:
            self._server.close()
            with contextlib.suppress(OSError):  # a read-only /run
                self._path.unlink(missing_ok=True)


def _allowed(peer: socket.socket) -> bool:
    data = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _CREDENTIALS.unpack(data)[1] in (0, os.geteuid())


def ask(root: Path, verb: str, guest: str) -> str | None:
    """What blocks it, None where it is done. Raises VfagentError, or FileNotFoundError where no agent listens."""
    try:
        answer = _answer(root, json.dumps({"verb": verb, "guest": guest}).encode() + b"\n")
    except FileNotFoundError:
        raise
    except ConnectionRefusedError as error:
        raise FileNotFoundError(error.errno, "no agent listens") from error
    except OSError as error:
        hint = "run it as root" if isinstance(error, PermissionError) else "vfagent status shows whether it was done"
        raise VfagentError(f"{SOCKET}: cannot talk to the service: {error.strerror}", hint=hint) from error
    if not answer.endswith(b"\n"):
        raise VfagentError(f"guest {guest}: cannot {verb} it: the service gave no answer", hint="vfagent status")
    match _decoded(answer):
        case {"blocker": None}:
            return None
        case {"blocker": str(blocker)}:
            return blocker
    problem = "the service gave an answer of another version"
    raise VfagentError(f"guest {guest}: cannot {verb} it: {problem}", hint="systemctl restart vfagent")


def _decoded(answer: bytes) -> object:
    try:
        return json.loads(answer)
    except (ValueError, RecursionError):
        return None


def _answer(root: Path, request: bytes) -> bytes:
    """The agent's line, or the part of it that came."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
        agent.connect(str(root / SOCKET))
        agent.sendall(request)
        answer = b""
        while not answer.endswith(b"\n") and len(answer) < _LONGEST_ANSWER and (chunk := agent.recv(_LONGEST_LINE)):
            answer += chunk
        return answer
