# SPDX-License-Identifier: Apache-2.0
"""The agent's socket, asked by those it is for and by those it is not."""

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.host.leaks import run_to_end
from vfagent.errors import VfagentError
from vfagent.host.control import SOCKET, ControlServer, ask

Talk = Callable[[Path], object]


async def handler(verb: str, guest: str) -> str | None:
    return None if guest == "x" else f"cannot {verb} {guest}"


def served(root: Path, talk: Talk) -> object:
    """What `talk` gives, with a server."""

    async def both() -> object:
        (root / "run/vfagent").mkdir(parents=True, exist_ok=True)
        server = ControlServer(root, handler)
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


def test_what_is_asked_is_answered(tmp_path: Path) -> None:
    assert served(tmp_path, lambda root: ask(root, "start", "x")) is None
    assert served(tmp_path, lambda root: ask(root, "stop", "y")) == "cannot stop y"


def test_where_it_cannot_listen_it_does_when_it_is_asked_again(tmp_path: Path) -> None:
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


def test_nobody_else_is_let_in(tmp_path: Path) -> None:
    assert served(tmp_path, lambda root: (root / SOCKET).stat().st_mode & 0o777) == 0o600


@pytest.mark.parametrize(
    "data",
    [b"{}\n", b"\n", b"[1]\n", b"\xff\n", b"x" * 100_000 + b"\n", b"[" * 3000 + b"\n", b'{"verb": "release"}\n'],
    ids=["empty", "blank", "list", "bytes", "long", "deep", "verb"],
)
def test_nonsense_is_not_answered_and_ends_nothing(tmp_path: Path, data: bytes) -> None:
    def talk(root: Path) -> object:
        return raw(root, data), ask(root, "start", "x")

    assert served(tmp_path, talk) == (b"", None)


def test_any_name_is_but_a_name(tmp_path: Path) -> None:
    line = json.dumps({"verb": "start", "guest": "../x"}).encode() + b"\n"
    answer = served(tmp_path, lambda root: json.loads(raw(root, line)))
    assert answer == {"hindrance": "cannot start ../x"}


def test_without_an_agent_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ask(tmp_path, "start", "x")
    served(tmp_path, lambda root: None)
    (tmp_path / "run/vfagent").mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / SOCKET))
    with pytest.raises(FileNotFoundError):
        ask(tmp_path, "start", "x")


def test_an_agent_that_goes_meanwhile_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VfagentError, match="the service gave no answer"):
        served(tmp_path, lambda root: ask(root, "restart", "x"))
