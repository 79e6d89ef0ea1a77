# SPDX-License-Identifier: Apache-2.0
"""Client connections: limited in number and in time, whatever the client does."""

import asyncio
import contextlib
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from vfagent.errors import VfagentError
from vfagent.kernel import socket_diag
from vfagent.metrics import address, http
from vfagent.metrics.limits import ClientLimits
from vfagent.metrics.page import Format, Page, negotiated
from vfagent.metrics.view import About
from vfagent.process import memory
from vfagent.process.workers import Workers

if TYPE_CHECKING:
    from ssl import SSLContext

MOST_CONNECTIONS = 64
# How long a client may keep the server waiting while others wait to connect: less with each that is disconnected.
_CROWDED_S, _PRESSED_S = 1.0, 0.02
_LOAD_S = 1.0
_MANY = 8  # parallel clients: their memory is returned to the kernel when all of them are gone
_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid
_SUBNET = 8  # bytes: an IPv6 host can have any address of its /64

Context = Callable[[], "SSLContext | None"]
Peer = int | bytes


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
        page: Callable[[Format], Awaitable[Page | None]],
        about: Callable[[], About],
        context: Context,
        workers: Workers,
        limits: ClientLimits,
    ) -> None:
        self.listener = listener
        self._page, self._about, self._context, self._workers = page, about, context, workers
        self._limits = limits
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
            async with asyncio.timeout(self._limits.read_s):
                reader, writer = await self._streams(client.socket)
                request = await self._request(reader)
            client.since = None
            response = await self._respond(request)
            client.since = asyncio.get_running_loop().time()
            async with asyncio.timeout(self._limits.write_s):
                head_only = isinstance(request, http.Request) and request.head_only
                await _send(writer, response, head_only=head_only)
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

    async def _respond(self, request: http.Request | http.RefusedRequestError) -> http.Response:
        try:
            if isinstance(request, http.RefusedRequestError):
                raise request
            if self._only_this_host:
                http.check_host(request)
            return await self._resource(request)
        except http.RefusedRequestError as refused:
            return http.refusal(refused)

    async def _resource(self, request: http.Request) -> http.Response:
        match request.path:
            case "/metrics":
                return await self._metrics(request)
            case "/":
                return http.index(self._about())
            case "/-/ready":
                return http.ready(self._about())
            case "/-/healthy":
                return http.healthy()
        raise http.RefusedRequestError(HTTPStatus.NOT_FOUND)

    async def _metrics(self, request: http.Request) -> http.Response:
        page = await self._page(negotiated(request.accept))
        if page is None:
            raise http.RefusedRequestError(HTTPStatus.SERVICE_UNAVAILABLE)
        headers = {"Content-Type": page.content_type, "Vary": "Accept, Accept-Encoding"}
        if request.gzip:
            headers["Content-Encoding"] = "gzip"
            return http.Response(HTTPStatus.OK, page.pieces(), len(page.packed), headers)
        return http.Response(HTTPStatus.OK, page.unpacked(), page.size, headers)


async def _send(writer: asyncio.StreamWriter, response: http.Response, *, head_only: bool) -> None:
    """Only a few pieces are in memory: asyncio's transports copy what they cannot send at once."""
    writer.write(response.head())
    await writer.drain()
    for piece in () if head_only else response.body:
        writer.write(piece)
        await writer.drain()


def peer(connection: socket.socket, *, ask: bool) -> Peer:
    """Whose a connection is: those of one user of this host, or of one remote address, count together.

    A user's number, or an address; b"" once the connection is gone. `ask`: whether the kernel tells users.
    """
    try:
        if connection.family == socket.AF_UNIX:
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            return int(_CREDENTIALS.unpack(credentials)[1])
        source, destination = connection.getpeername()[:2], connection.getsockname()[:2]
    except OSError:
        return b""
    # All of 127.0.0.0/8 is at the disposal of every local process: there, only the user tells clients apart.
    user = socket_diag.owner(source, destination) if ask else None
    return _host(source[0]) if user is None else user


def _host(text: str) -> bytes:
    address = text.partition("%")[0]
    if ":" in address:
        return socket.inet_pton(socket.AF_INET6, address)[:_SUBNET]
    return b"\x7f" if address.startswith("127.") else socket.inet_pton(socket.AF_INET, address)
