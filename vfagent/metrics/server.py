# SPDX-License-Identifier: Apache-2.0
"""Connections: few at a time, none for long, whatever the other end does."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from vfagent.metrics import http

if TYPE_CHECKING:
    from ssl import SSLContext

    from vfagent.metrics.page import Page

MOST_CONNECTIONS = 64
READ_S = 5.0
WRITE_S = 10.0
_UNDER_PRESSURE_S = 1.0  # how long each may stay while others have no place
_PIECE = 1 << 15


@dataclass(slots=True)
class _Client:
    socket: socket.socket
    began: float


class Server:
    """Serves one listening socket. `context` gives the TLS context of the day, or None."""

    def __init__(
        self,
        listener: socket.socket,
        page: "Callable[[], Awaitable[Page | None]]",
        context: "Callable[[], SSLContext | None]",
    ) -> None:
        self.listener = listener
        self._page, self._context = page, context
        self._clients: dict[asyncio.Task[None], _Client] = {}  # the oldest first
        self._accepting = asyncio.create_task(self._accept())

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What no child may keep open."""
        sockets = (self.listener, *(client.socket for client in self._clients.values()))
        return tuple(fd for one in sockets if (fd := one.fileno()) >= 0)

    def close(self) -> None:
        self._accepting.cancel()
        # Not left to the task: by its turn the descriptor may be another socket's.
        asyncio.get_running_loop().remove_reader(self.listener)
        self.listener.close()
        for task in self._clients:
            task.cancel()

    async def closed(self) -> None:
        await asyncio.wait({self._accepting, *self._clients})

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._room()
            try:
                connection, _ = await loop.sock_accept(self.listener)
            except OSError:
                await asyncio.sleep(1.0)  # no descriptors left: what is open ends soon
                continue
            task = asyncio.create_task(self._serve(connection))
            self._clients[task] = _Client(connection, loop.time())
            task.add_done_callback(self._clients.pop)

    async def _room(self) -> None:
        """A place for one more. Until there is one, further clients wait in the kernel's queue."""
        loop = asyncio.get_running_loop()
        while len(self._clients) >= MOST_CONNECTIONS:
            oldest, client = next(iter(self._clients.items()))
            patience = client.began + _UNDER_PRESSURE_S - loop.time()
            await asyncio.wait(self._clients, timeout=max(patience, 0.0), return_when=asyncio.FIRST_COMPLETED)
            if patience <= 0:
                oldest.cancel()
                await asyncio.wait({oldest})
            await asyncio.sleep(0)  # the callbacks of those that ended make room

    async def _serve(self, connection: socket.socket) -> None:
        writer = None
        try:
            async with asyncio.timeout(READ_S):
                reader, writer = await self._streams(connection)
                answer = await self._request(reader)
            async with asyncio.timeout(WRITE_S):
                await self._answer(writer, answer)
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError, EOFError):
            pass  # the other end's affair; ssl's errors are OSErrors
        finally:
            # At once and for all, whatever is still to be sent; after a proper end this does nothing.
            writer.transport.abort() if writer else connection.close()

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

    async def _answer(self, writer: asyncio.StreamWriter, request: http.Request | http.RefusedRequestError) -> None:
        match request:
            case http.Request(path="/metrics"):
                await self._send_page(writer, gzip=request.gzip)
            case http.Request(path="/"):
                writer.write(http.index().packed())
            case http.Request():
                writer.write(http.refusal(http.RefusedRequestError(HTTPStatus.NOT_FOUND)).packed())
            case http.RefusedRequestError():
                writer.write(http.refusal(request).packed())
        await writer.drain()

    async def _send_page(self, writer: asyncio.StreamWriter, *, gzip: bool) -> None:
        page = await self._page()
        if page is None:
            writer.write(http.refusal(http.RefusedRequestError(HTTPStatus.SERVICE_UNAVAILABLE)).packed())
            return
        from vfagent.metrics.page import CONTENT_TYPE

        headers = {"Content-Type": CONTENT_TYPE, "Vary": "Accept-Encoding"}
        if gzip:
            sized = {**headers, "Content-Encoding": "gzip", "Content-Length": str(len(page.packed))}
        else:
            sized = {**headers, "Content-Length": str(page.size)}
        writer.write(http.head(HTTPStatus.OK, sized))
        await _send(writer, _pieces(page.packed) if gzip else page.unpacked())


def _pieces(data: bytes) -> Iterable[memoryview]:
    view = memoryview(data)
    return (view[start : start + _PIECE] for start in range(0, len(view), _PIECE))


async def _send(writer: asyncio.StreamWriter, pieces: Iterable[bytes | memoryview]) -> None:
    """Never more than a few pieces in memory: asyncio's transports copy what they cannot send at once."""
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
