# SPDX-License-Identifier: Apache-2.0
"""The agent's control socket, with valid and invalid clients."""

import asyncio
import contextlib
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.host.leaks import run_to_end
from vfagent.errors import VfagentError
from vfagent.service.control_socket import SOCKET, ControlServer, Handler, ask

Talk = Callable[[Path], object]


async def handler(verb: str, guest: str) -> str | None:
    return None if guest == "x" else f"cannot {verb} {guest}"


def served(root: Path, talk: Talk, answer: Handler = handler) -> object:
    """The result of `talk`, while a server runs."""

    async def both() -> object:
        (root / "run/vfagent").mkdir(parents=True, exist_ok=True)
        server = ControlServer(root, answer)
        await server.start()
        result = await asyncio.to_thread(talk, root)
        server.stop()
        await asyncio.sleep(0.05)
        return result

    return run_to_end(both())


def raw(root: Path, data: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(root / SOCKET))
        try:
            client.sendall(data)
            return client.recv(4096)
        except OSError:
            return b""


def test_a_request_is_answered(tmp_path: Path) -> None:
    assert served(tmp_path, lambda root: ask(root, "start", "x")) is None
    assert served(tmp_path, lambda root: ask(root, "stop", "y")) == "cannot stop y"


def test_a_server_that_could_not_listen_does_so_at_the_next_start(tmp_path: Path) -> None:
    async def twice() -> object:
        server = ControlServer(tmp_path, handler)
        await server.start()
        (tmp_path / "run/vfagent").mkdir(parents=True)
        await server.start()
        result = await asyncio.to_thread(ask, tmp_path, "start", "x")
        server.stop()
        await server.start()
        assert not (tmp_path / SOCKET).exists()
        await asyncio.sleep(0.05)
        return result

    assert run_to_end(twice()) is None


def test_only_the_owner_may_connect(tmp_path: Path) -> None:
    assert served(tmp_path, lambda root: (root / SOCKET).stat().st_mode & 0o777) == 0o600


def test_a_peer_that_is_not_root_is_refused(tmp_path: Path) -> None:
    """Even where the modes of socket and folders let it connect."""

    def talk(root: Path) -> object:
        os.chmod(root / SOCKET, 0o666)
        fd = os.open((root / SOCKET).parent, os.O_PATH)  # pytest's folders are closed to others
        program = f"""
import os, socket
os.fchdir({fd})
os.setresuid(65534, 65534, 65534)
client = socket.socket(socket.AF_UNIX)
client.settimeout(10)
client.connect({Path(SOCKET).name!r})
client.sendall(b'{{"verb": "start", "guest": "x"}}\\n')
print(client.recv(4096))
"""
        argv = [sys.executable, "-c", program]
        done = subprocess.run(argv, pass_fds=[fd], capture_output=True, text=True, check=False)
        os.close(fd)
        return done.stdout + done.stderr

    asked: list[str] = []

    async def noted(verb: str, guest: str) -> str | None:
        asked.append(guest)
        return None

    output = str(served(tmp_path, talk, noted))
    assert not asked
    assert output == "b''\\n" or "ConnectionResetError" in output or "BrokenPipeError" in output


@pytest.mark.parametrize(
    "data",
    [b"{}\n", b"\n", b"[1]\n", b"\xff\n", b"x" * 100_000 + b"\n", b"[" * 3000 + b"\n", b'{"verb": "release"}\n'],
    ids=["empty", "blank", "list", "bytes", "long", "deep", "verb"],
)
def test_an_invalid_request_is_not_answered_and_does_not_stop_the_server(tmp_path: Path, data: bytes) -> None:
    def talk(root: Path) -> object:
        return raw(root, data), ask(root, "start", "x")

    assert served(tmp_path, talk) == (b"", None)


def test_a_guest_name_may_be_any_text(tmp_path: Path) -> None:
    line = json.dumps({"verb": "start", "guest": "../x"}).encode() + b"\n"
    answer = served(tmp_path, lambda root: json.loads(raw(root, line)))
    assert answer == {"blocker": "cannot start ../x"}


def test_without_an_agent_the_error_is_file_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ask(tmp_path, "start", "x")
    served(tmp_path, lambda root: None)
    (tmp_path / "run/vfagent").mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / SOCKET))
    with pytest.raises(FileNotFoundError):
        ask(tmp_path, "start", "x")


def test_an_agent_that_ends_without_an_answer_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VfagentError, match="the service gave no answer"):
        served(tmp_path, lambda root: ask(root, "restart", "x"))


@pytest.mark.parametrize(
    "answer", [b"{}\n", b"[]\n", b'{"blocker": 1}\n', b"\xff\n", b"[" * 5000 + b"\n", b"x" * (1 << 17)],
    ids=["empty", "list", "number", "bytes", "deep", "endless"],
)  # fmt: skip
def test_an_answer_that_is_none_is_an_error(tmp_path: Path, answer: bytes) -> None:
    (tmp_path / "run/vfagent").mkdir(parents=True)

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(4096)
            connection.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as pool:
        listener.bind(str(tmp_path / SOCKET))
        listener.listen()
        pool.submit(serve, listener)
        with pytest.raises(VfagentError, match=r"guest x: cannot start it: the service gave (no answer|an answer of)"):
            ask(tmp_path, "start", "x")


def test_forty_requests_at_once_are_all_answered(tmp_path: Path) -> None:
    """As with `parallel vfagent guest start ::: …`; sixteen are handled at a time."""
    running, most = 0, 0

    async def slow(verb: str, guest: str) -> str | None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05)
        running -= 1
        return guest

    def talk(root: Path) -> list[str | None]:
        with ThreadPoolExecutor(40) as pool:
            return list(pool.map(lambda number: ask(root, "start", str(number)), range(40)))

    assert served(tmp_path, talk, slow) == [str(number) for number in range(40)]
    assert most == 16


def test_requests_beyond_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfagent.service.control_socket._MOST_OPEN", 0)
    assert served(tmp_path, lambda root: ask(root, "start", "x")) == "the service has too many requests"


def test_a_broken_connection_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "run/vfagent").mkdir(parents=True)

    def close_unread(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        select.select([connection], [], [], 5)
        connection.close()

    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as pool:
        listener.bind(str(tmp_path / SOCKET))
        listener.listen()
        pool.submit(close_unread, listener)
        with pytest.raises(VfagentError, match="cannot talk to the service: Connection reset by peer") as raised:
            ask(tmp_path, "start", "x")
    assert raised.value.hint
