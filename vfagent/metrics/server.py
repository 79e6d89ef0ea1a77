# SPDX-License-Identifier: Apache-2.0
"""Client connections: limited in number and in time, whatever the client does."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from itertools import chain
from typing import TYPE_CHECKING

from vfagent.metrics import http
from vfagent.metrics.page import CONTENT_TYPE, Page
from vfagent.process import memory

if TYPE_CHECKING:
    from ssl import SSLContext

MOST_CONNECTIONS = 64
READ_S = 5.0
WRITE_S = 10.0
_CROWDED_S = 1.0  # how long a client may keep the server waiting while others wait to connect
_PIECE = 1 << 15
_MANY = 8  # parallel clients: their memory is returned to the kernel when all of them are gone


Context = Callable[[], "SSLContext | None"]


@dataclass(slots=True)
class _Client:
    """`since`: when the server began to wait for the client; None while the client waits for the server."""

    socket: socket.socket
    since: float | None


class Server:
    """Serves one listening socket. `context` returns the current TLS context, or None."""

    def __init__(
        self,
        listener: socket.socket,
        page: Callable[[], Awaitable[Page | None]],
        context: Context,
    ) -> None:
        self.listener = listener
        self._page, self._context = page, context
        self._clients: dict[asyncio.Task[None], _Client] = {}
        self._had_many = False
        self._accepting = asyncio.create_task(self._accept())

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Those that no child may inherit."""
        sockets = (self.listener, *(client.socket for client in self._clients.values()))
        return tuple(fd for sock in sockets if (fd := sock.fileno()) >= 0)

    def close(self) -> None:
        """The listening socket is closed by its owner."""
        self._accepting.cancel()
        for task in self._clients:
            task.cancel()

    async def closed(self) -> None:
        await asyncio.wait({self._accepting, *self._clients})

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wait_for_room()
            try:
                connection, _ = await loop.sock_accept(self.listener)
            except OSError:
                await asyncio.sleep(1.0)  # no descriptors left until a connection ends
                continue
            client = _Client(connection, loop.time())
            task = asyncio.create_task(self._serve(client))
            self._clients[task] = client
            self._had_many |= len(self._clients) >= _MANY
            task.add_done_callback(self._gone)

    def _gone(self, task: asyncio.Task[None]) -> None:
        del self._clients[task]
        if self._had_many and not self._clients:
            self._had_many = False
            memory.give_back()

    async def _wait_for_room(self) -> None:
        """Wait until one more may connect; until then, clients wait in the kernel's queue."""
        loop = asyncio.get_running_loop()
        while len(self._clients) >= MOST_CONNECTIONS:
            since = {task: client.since for task, client in self._clients.items() if client.since is not None}
            slowest = min(since, key=lambda task: since[task], default=None)
            patience = since[slowest] + _CROWDED_S - loop.time() if slowest else _CROWDED_S
            await asyncio.wait(self._clients, timeout=max(patience, 0.0), return_when=asyncio.FIRST_COMPLETED)
            if slowest and patience <= 0:
                slowest.cancel()
                await asyncio.wait({slowest})
            await asyncio.sleep(0)  # for the callbacks of the connections that ended

    async def _serve(self, client: _Client) -> None:
        writer = None
        try:
            async with asyncio.timeout(READ_S):
                reader, writer = await self._streams(client.socket)
                request = await self._request(reader)
            client.since = None
            answer = await self._answer(request)
            client.since = asyncio.get_running_loop().time()
            async with asyncio.timeout(WRITE_S):
                await _send(writer, answer)
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError, EOFError):
            pass  # the client's problem; ssl's errors are OSErrors
        finally:
            # Also with unsent data; after a clean close this does nothing.
            writer.transport.abort() if writer else client.socket.close()

    async def _streams(self, connection: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=http.LONGEST_HEAD)
        protocol = asyncio.StreamReaderProtocol(reader)
        context = self._context()
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=context)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _request(self, reader: asyncio.StreamReader) -> http.Request | http.RefusedRequestError:
        try:
            return http.parse(await reader.readuntil(b"\r\n\r\n"))
        except asyncio.LimitOverrunError:
            return http.RefusedRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        except http.RefusedRequestError as refused:
            return refused

    async def _answer(self, request: http.Request | http.RefusedRequestError) -> Iterable[bytes | memoryview]:
        match request:
            case http.Request(path="/metrics"):
                return await self._page_for(request)
            case http.Request(path="/"):
                return (http.index().encode(),)
            case http.Request():
                return (http.refusal(http.RefusedRequestError(HTTPStatus.NOT_FOUND)).encode(),)
            case http.RefusedRequestError():
                return (http.refusal(request).encode(),)

    async def _page_for(self, request: http.Request) -> Iterable[bytes | memoryview]:
        page = await self._page()
        if page is None:
            return (http.refusal(http.RefusedRequestError(HTTPStatus.SERVICE_UNAVAILABLE)).encode(),)
        headers = {"Content-Type": CONTENT_TYPE, "Vary": "Accept-Encoding"}
        if request.gzip:
            headers |= {"Content-Encoding": "gzip", "Content-Length": str(len(page.packed))}
        else:
            headers |= {"Content-Length": str(page.size)}
        body = _pieces(page.packed) if request.gzip else page.unpacked()
        return chain((http.head(HTTPStatus.OK, headers),), body)


def _pieces(data: bytes) -> Iterable[memoryview]:
    view = memoryview(data)
    return (view[start : start + _PIECE] for start in range(0, len(view), _PIECE))


async def _send(writer: asyncio.StreamWriter, pieces: Iterable[bytes | memoryview]) -> None:
    """Only a few pieces are in memory: asyncio's transports copy what they cannot send at once."""
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
