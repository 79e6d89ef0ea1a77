# SPDX-License-Identifier: Apache-2.0
"""A Varlink server on a Unix socket (varlink.org): JSON objects that end in a NUL byte.

Debian 12 has no library for it, and python3-varlink of Debian 13 blocks. The kernel says who calls (SO_PEERCRED): root
calls everything, others what only reads.
"""

import asyncio
import contextlib
import json
import logging
import os
import socket
import struct
from asyncio.trsock import TransportSocket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vfagent.frozen import frozen

log = logging.getLogger(__name__)

LONGEST_CALL = 4096
_CREDENTIALS = struct.Struct("=iII")
_SERVICE = "org.varlink.service"

Parameters = Mapping[str, object]
Raw = str  # the JSON of the parameters of a reply


class VarlinkError(Exception):
    """An error reply: its name with the interface, and its parameters."""

    def __init__(self, name: str, **parameters: object) -> None:
        super().__init__(name)
        self.name, self.parameters = name, parameters


@frozen(slots=True)
class Method:
    """`call` gets the parameters. `parameters`: their types; what is not in `required` may be absent or null."""

    call: Callable[..., Awaitable[Raw]] | None = None
    stream: Callable[[], AsyncIterator[Raw]] | None = None  # for `more`
    parameters: Mapping[str, type] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    for_all: bool = False  # not for root alone


@frozen(slots=True)
class Service:
    """What the server has. `info`: of GetInfo. `interfaces`: their descriptions. `methods`: by their full names."""

    info: Mapping[str, str]
    interfaces: Mapping[str, str]
    methods: Mapping[str, Method]


@frozen(slots=True)
class Limits:
    """`call_s`: for a call to come, after the connection or after the last answer, and for an answer to be read.
    `at_once`: calls. `open`: connections, of which those beyond `at_once` wait. `of_others`: connections of users other
    than root, who cannot keep root out; `at_once_of_others`: their calls."""

    call_s: float = 5.0
    at_once: int = 16
    open: int = 256
    of_others: int = 16
    at_once_of_others: int = 4


LIMITS = Limits()


@dataclass(slots=True)
class _Call:
    """A call; `more`: several replies are wanted, `oneway`: none."""

    method: str
    parameters: Parameters
    more: bool
    oneway: bool


class VarlinkServer:
    def __init__(self, path: Path, service: Service, limits: Limits) -> None:
        self._path, self._service, self._limits = path, service, limits
        self._listener: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._stopped = False
        self._clients: dict[TransportSocket, bool] = {}  # whether it is root's
        self._at_once = asyncio.Semaphore(limits.at_once)
        self._at_once_of_others = asyncio.Semaphore(limits.at_once_of_others)

    async def start(self) -> None:
        """Listens, unless it does already. Where it cannot, the agent does everything else."""
        if self._listener is None and not self._stopped and (listener := self._listen()):
            self._listener = listener  # known before it is served: a worker may be forked in between
            self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=LONGEST_CALL)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What a worker must close: a client would wait for an answer as long as the worker has its connection."""
        sockets = (*((self._listener,) if self._listener else ()), *self._clients)
        return tuple(opened.fileno() for opened in sockets if opened.fileno() >= 0)

    def _listen(self) -> socket.socket | None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._path.unlink(missing_ok=True)
            listener.bind(str(self._path))
            os.chmod(self._path, 0o666)
        except OSError as error:
            listener.close()
            log.error("cannot listen at %s: %s; the service accepts no requests", self._path, error.strerror)
            return None
        return listener

    def stop(self) -> None:
        self._stopped = True
        if self._server:
            self._server.close()
            with contextlib.suppress(OSError):  # a read-only /run
                self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client: TransportSocket = writer.get_extra_info("socket")
        privileged = self._clients[client] = _is_root(client)
        try:
            if privileged or sum(not root for root in self._clients.values()) <= self._limits.of_others:
                await self._answer_all(reader, writer, privileged=privileged)
        except (OSError, ValueError, RecursionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # no Varlink, a call that is too long or does not come, or the client has ended
        finally:
            await self._close(client, writer)

    async def _close(self, client: TransportSocket, writer: asyncio.StreamWriter) -> None:
        """What was answered is still sent. A client that does not read it delays nothing at the service's end."""
        try:
            writer.close()
            with contextlib.suppress(OSError):
                async with asyncio.timeout(0.0 if self._stopped else self._limits.call_s):
                    await writer.wait_closed()
        finally:
            writer.transport.abort()
            del self._clients[client]

    async def _answer_all(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, privileged: bool
    ) -> None:
        while call := _call(await asyncio.wait_for(reader.readuntil(b"\0"), self._limits.call_s)):
            try:
                async for reply, continues in self._replies(call, reader, privileged=privileged):
                    if not call.oneway:
                        await self._send(writer, _reply(reply, continues=continues))
            except VarlinkError as error:
                if not call.oneway:
                    await self._send(writer, json.dumps({"error": error.name, "parameters": error.parameters}))

    async def _send(self, writer: asyncio.StreamWriter, text: str) -> None:
        writer.write(text.encode() + b"\0")
        await asyncio.wait_for(writer.drain(), self._limits.call_s)

    async def _replies(
        self, call: _Call, reader: asyncio.StreamReader, *, privileged: bool
    ) -> AsyncIterator[tuple[Raw, bool]]:
        interface, _, name = call.method.rpartition(".")
        if interface == _SERVICE:
            yield self._describe(name, call.parameters), False
            return
        method = self._service.methods.get(call.method)
        if method is None:
            raise _unknown(interface, call.method, self._service.interfaces)
        if not (privileged or method.for_all):
            raise VarlinkError(f"{_SERVICE}.PermissionDenied")
        arguments = _arguments(method, call.parameters)
        if method.stream:
            if not call.more:
                raise VarlinkError(f"{_SERVICE}.ExpectedMore")
            async for reply in _until_closed(method.stream(), reader):
                yield reply, True
        elif method.call:
            yield await self._limited(method.call, arguments, privileged=privileged), False

    async def _limited(self, call: Callable[..., Awaitable[Raw]], arguments: Parameters, *, privileged: bool) -> Raw:
        if len(self._clients) > self._limits.open:
            raise VarlinkError("io.vfagent.TooManyRequests")
        async with self._at_once if privileged else self._at_once_of_others:
            return await call(**arguments)

    def _describe(self, name: str, parameters: Parameters) -> Raw:
        match name:
            case "GetInfo":
                return json.dumps({**self._service.info, "interfaces": [_SERVICE, *self._service.interfaces]})
            case "GetInterfaceDescription":
                asked = parameters.get("interface")
                if asked == _SERVICE:
                    return json.dumps({"description": SERVICE_INTERFACE})
                if not isinstance(asked, str):
                    raise VarlinkError(f"{_SERVICE}.InvalidParameter", parameter="interface")
                if asked not in self._service.interfaces:
                    raise VarlinkError(f"{_SERVICE}.InterfaceNotFound", interface=asked)
                return json.dumps({"description": self._service.interfaces[asked]})
        raise VarlinkError(f"{_SERVICE}.MethodNotFound", method=f"{_SERVICE}.{name}")


def _is_root(peer: TransportSocket) -> bool:
    data = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _CREDENTIALS.unpack(data)[1] in (0, os.geteuid())


def _call(message: bytes) -> _Call | None:
    """None where it is no call: then the connection is closed, as the protocol says."""
    match json.loads(message[:-1]):
        case {"method": str(method), **rest}:
            parameters = rest.get("parameters") or {}
            if isinstance(parameters, dict) and not rest.get("upgrade"):
                return _Call(method, parameters, rest.get("more") is True, rest.get("oneway") is True)
    return None


def _unknown(interface: str, method: str, interfaces: Mapping[str, str]) -> VarlinkError:
    if interface in interfaces:
        return VarlinkError(f"{_SERVICE}.MethodNotFound", method=method)
    return VarlinkError(f"{_SERVICE}.InterfaceNotFound", interface=interface)


def _arguments(method: Method, parameters: Parameters) -> Parameters:
    given = {name: value for name, value in parameters.items() if value is not None}
    wrong = [*(given.keys() - method.parameters.keys()), *(method.required - given.keys())]
    wrong += [name for name, value in given.items() if type(value) is not method.parameters.get(name)]
    if wrong:
        raise VarlinkError(f"{_SERVICE}.InvalidParameter", parameter=min(wrong))
    return given


async def _until_closed(replies: AsyncIterator[Raw], reader: asyncio.StreamReader) -> AsyncIterator[Raw]:
    """A client that has closed its end, or calls again, gets no more."""
    closed = asyncio.ensure_future(reader.read(1))
    try:
        while True:
            reply = asyncio.ensure_future(anext(replies))
            await asyncio.wait({closed, reply}, return_when=asyncio.FIRST_COMPLETED)
            if closed.done():
                reply.cancel()
                await asyncio.wait({reply})
                raise ConnectionResetError
            yield reply.result()
    finally:
        closed.cancel()


def _reply(parameters: Raw, *, continues: bool) -> str:
    return f'{{"parameters":{parameters},"continues":true}}' if continues else f'{{"parameters":{parameters}}}'


SERVICE_INTERFACE = """\
# What every Varlink service has
interface org.varlink.service

method GetInfo() -> (vendor: string, product: string, version: string, url: string, interfaces: []string)

method GetInterfaceDescription(interface: string) -> (description: string)

error InterfaceNotFound (interface: string)

error MethodNotFound (method: string)

error MethodNotImplemented (method: string)

error InvalidParameter (parameter: string)

error PermissionDenied ()

error ExpectedMore ()
"""
