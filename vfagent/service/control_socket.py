# SPDX-License-Identifier: Apache-2.0
"""The agent's socket, for what only it can do: one line of JSON in, one out.

It lies in a folder and has a mode that let nobody but root in, and asks the kernel who is there nonetheless.
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
_LINE_S = 5.0
_MOST_AT_ONCE = 16
_MOST_OPEN = 256  # the others wait for their turn; each holds a descriptor
_TOO_MANY = "the service is asked for too much at once"
_CREDENTIALS = struct.Struct("=iII")

Handler = Callable[[str, str], Awaitable[str | None]]


class ControlServer:
    """`handler` gets verb and guest, and gives what is in the way, or None."""

    def __init__(self, root: Path, handler: Handler) -> None:
        self._path, self._handler = root / SOCKET, handler
        self._server: asyncio.Server | None = None
        self._stopped = False
        self._open = 0
        self._turns = asyncio.Semaphore(_MOST_AT_ONCE)

    async def start(self) -> None:
        """Listens, unless it does already; where that cannot be had, the agent does all else without."""
        if self._server is None and not self._stopped and (listener := self._listen()):
            self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=_LONGEST_LINE)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What a worker must not keep: who connects to one that outlives the service gets no answer."""
        return tuple(one.fileno() for one in self._server.sockets) if self._server else ()

    def _listen(self) -> socket.socket | None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._path.unlink(missing_ok=True)
            listener.bind(str(self._path))
            os.chmod(self._path, 0o600)
        except OSError as error:
            listener.close()
            log.error("cannot listen at %s: %s; vfagent guest start and stop wait for that", self._path, error.strerror)
            return None
        return listener

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if _allowed(writer.get_extra_info("socket")):
                await self._answer(reader, writer)
        except (OSError, ValueError, RecursionError, TimeoutError, asyncio.IncompleteReadError):
            pass  # not one of ours, or gone
        finally:
            self._open -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await asyncio.wait_for(reader.readline(), _LINE_S)
        asked = json.loads(line)
        if not isinstance(asked, dict) or asked.get("verb") not in ("start", "stop"):
            return
        blocker = await self._in_turn(asked["verb"], str(asked.get("guest")))
        writer.write(json.dumps({"blocker": blocker}).encode() + b"\n")
        await writer.drain()

    async def _in_turn(self, verb: str, guest: str) -> str | None:
        if self._open > _MOST_OPEN:
            return _TOO_MANY
        async with self._turns:
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
    """What is in the way, None where it is done. Raises VfagentError, FileNotFoundError where no agent listens."""
    try:
        answer = _answer(root, json.dumps({"verb": verb, "guest": guest}).encode() + b"\n")
    except FileNotFoundError:
        raise
    except ConnectionRefusedError as error:
        raise FileNotFoundError(error.errno, "no agent listens") from error
    except OSError as error:
        hint = "run it as root" if isinstance(error, PermissionError) else "vfagent status tells whether it was done"
        raise VfagentError(f"{SOCKET}: cannot talk to the service: {error.strerror}", hint=hint) from error
    if not answer.endswith(b"\n"):
        raise VfagentError(f"guest {guest}: cannot {verb} it: the service gave no answer", hint="vfagent status")
    blocker = json.loads(answer)["blocker"]
    return None if blocker is None else str(blocker)


def _answer(root: Path, request: bytes) -> bytes:
    """Up to the end of its line, or of what there is of it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
        agent.connect(str(root / SOCKET))
        agent.sendall(request)
        answer = b""
        while not answer.endswith(b"\n") and (chunk := agent.recv(_LONGEST_LINE)):
            answer += chunk
        return answer
