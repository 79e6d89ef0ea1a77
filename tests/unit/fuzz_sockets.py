# SPDX-License-Identifier: Apache-2.0
"""What test_fuzz.py sends over the sockets of the service and of a guest's QEMU, from either side."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vfagent.errors import RefusedError, VfagentError
from vfagent.guests.ask import main as ask_guest
from vfagent.guests.qmp import stop
from vfagent.model.guest_unit import RUN_STATES
from vfagent.service.control_client import call, monitor
from vfagent.service.control_interface import SOCKET
from vfagent.service.control_socket import PublishedStatus, Requests, control_server

_BLOCKER = "cannot do it"
_START = b'{"method":"io.vfagent.Guest.Start","parameters":{"name":"web"}}\0'
_ANSWER = b'{"error": "io.vfagent.Guest.Refused", "parameters": {"reason": "cannot do it"}}\0'


def control(data: bytes, folder: Path) -> None:
    """As a call of the service, and as its answers to `vfagent release` and to who monitors it."""
    asyncio.run(_request(data, folder))
    with _peer(folder / SOCKET, data), suppress(VfagentError, FileNotFoundError):
        assert isinstance(call(folder, "io.vfagent.Release", pf="enp1s0f0"), dict)
    with _peer(folder / SOCKET, data), suppress(VfagentError, FileNotFoundError):
        assert all(isinstance(reply, dict) for reply in monitor(folder, "io.vfagent.Monitor", time.monotonic() + 10))


async def _request(data: bytes, folder: Path) -> None:
    """It is answered, or the connection is closed; the next one is answered either way."""
    (folder / SOCKET).parent.mkdir(parents=True, exist_ok=True)
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, failure: failures.append(failure))

    async def handler(verb: str, guest: str) -> str | None:
        assert verb in {"start", "stop"}
        assert isinstance(guest, str)
        return _BLOCKER

    async def reload(confirm_s: int | None) -> str:
        assert confirm_s is None or isinstance(confirm_s, int)
        return "digest"

    async def confirm() -> str:
        return "digest"

    async def plan() -> str:
        return "{}"

    async def release(pf: str, force: bool) -> str:  # noqa: FBT001
        assert isinstance(pf, str)
        assert isinstance(force, bool)
        if not force:
            raise RefusedError(f"{pf}: a VF is in use", hint="--force")
        return pf

    server = control_server(folder, PublishedStatus(), Requests(handler, reload, confirm, plan, release))
    await server.start()
    try:
        for answer in (await _exchange(data, folder)).split(b"\0")[:-1]:
            assert {"parameters"} <= json.loads(answer).keys() <= {"parameters", "error", "continues"}
        assert await _exchange(_START, folder) == _ANSWER
    finally:
        server.stop()
    assert not failures, failures


async def _exchange(data: bytes, folder: Path) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(folder / SOCKET))
    answer = b""
    with suppress(ConnectionError):  # a line that is too long is not read to its end
        writer.write(data)
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 2)
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return answer


def qmp(data: bytes, folder: Path) -> None:
    """As what QEMU says to the helpers that ask for its state, and that power it down."""
    path, begin = folder / "qmp", time.monotonic()
    with _peer(path, data):
        assert ask_guest([str(path)]) in {1, *RUN_STATES.values()}
    with _peer(path, data):
        assert stop(str(path), 10), "QEMU has closed its socket"
    assert time.monotonic() - begin < 60


@contextmanager
def _peer(path: Path, data: bytes) -> Iterator[None]:
    """Listens there, reads the first line of one client, sends it `data`, and closes."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = _started(lambda: _serve(listener, data))
        try:
            yield
        finally:
            thread.join()


def _started(task: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=task)
    thread.start()
    return thread


def _serve(listener: socket.socket, data: bytes) -> None:
    listener.settimeout(10)
    with suppress(OSError), listener.accept()[0] as connection:  # a client may have heard enough
        connection.settimeout(5)
        connection.recv(4096)
        half = len(data) // 2
        connection.sendall(data[:half])
        connection.sendall(data[half:])
