# SPDX-License-Identifier: Apache-2.0
"""Client connections: limited in number and in time, whatever the client does."""

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from itertools import chain
from typing import TYPE_CHECKING

from vfagent.errors import VfagentError
from vfagent.kernel import socket_diag
from vfagent.metrics import address, http
from vfagent.metrics.page import CONTENT_TYPE, Page
from vfagent.metrics.peers import Peer, peer
from vfagent.process import memory
from vfagent.process.workers import Workers

if TYPE_CHECKING:
    from ssl import SSLContext

MOST_CONNECTIONS = 64
READ_S = 5.0
WRITE_S = 10.0
# How long a client may keep the server waiting while others wait to connect: less with each that is disconnected.
_CROWDED_S, _PRESSED_S = 1.0, 0.02
_LOAD_S = 1.0
_PIECE = 1 << 15
_MANY = 8  # parallel clients: their memory is returned to the kernel when all of them are gone


Context = Callable[[], "SSLContext | None"]


@dataclass(slots=True)
class _Client:
    """`since`: when the server began to wait for the client; None while the client waits for the server.

    `peer`: whose it is, once that matters.
    """

    socket: socket.socket
    since: float | None
    peer: Peer | None = None


class Server:
    """Serves one listening socket. `context` returns the current TLS context, or None."""

    def __init__(
        self,
        listener: socket.socket,
        page: Callable[[], Awaitable[Page | None]],
        context: Context,
        workers: Workers,
    ) -> None:
        self.listener = listener
        self._page, self._context, self._workers = page, context, workers
        self._clients: dict[asyncio.Task[None], _Client] = {}
        self._had_many = False
        # Names in a certificate are the client's to check, and who serves other hosts may be asked by any name.
        self._only_this_host = context() is None and address.is_loopback(listener)
        self._patience = _CROWDED_S
        self._users_known: bool | None = None
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
        if len(self._clients) < MOST_CONNECTIONS // 2:
            self._patience = _CROWDED_S
        while len(self._clients) >= MOST_CONNECTIONS:
            await self._load()
            slowest = self._slowest()
            since = self._clients[slowest].since if slowest else None
            patience = self._patience if since is None else max(since + self._patience - loop.time(), 0.0)
            await asyncio.wait(self._clients, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0)  # for the callbacks of the connections that ended
            crowded = len(self._clients) >= MOST_CONNECTIONS and slowest in self._clients
            if crowded and slowest and self._clients[slowest].since == since is not None:
                self._patience = max(self._patience / 2, _PRESSED_S)
                slowest.cancel()
                await asyncio.wait({slowest})
                await asyncio.sleep(0)

    async def _load(self) -> None:
        """The first question about a socket's user loads the module tcp_diag, which the event loop cannot wait for."""
        if self._users_known is None:
            self._users_known = False
            with contextlib.suppress(VfagentError):
                self._users_known = await self._workers.call(socket_diag.answers, deadline_s=_LOAD_S)

    def _slowest(self) -> asyncio.Task[None] | None:
        """Of the clients of whoever has the most connections, the one that keeps the server waiting longest."""
        for client in self._clients.values():
            if client.peer is None:
                client.peer = peer(client.socket, ask=bool(self._users_known))
        connections = Counter(client.peer for client in self._clients.values())
        waiting = [task for task, client in self._clients.items() if client.since is not None]
        return min(waiting, key=lambda task: self._order(task, connections), default=None)

    def _order(self, task: asyncio.Task[None], connections: Mapping[Peer | None, int]) -> tuple[int, float]:
        client = self._clients[task]
        return -connections[client.peer], client.since or 0.0

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
            request = http.parse(await reader.readuntil(b"\r\n\r\n"))
            if self._only_this_host:
                http.check_host(request)
            return request
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
