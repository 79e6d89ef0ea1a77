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
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.host.leaks import descriptors, run_to_end
from tests.host.waiting import until
from vfagent.errors import PolicyError, RefusedError, VfagentError
from vfagent.process.workers import Workers
from vfagent.service.control_client import ErrorReplyError, call, monitor
from vfagent.service.control_interface import INTERFACES, SOCKET
from vfagent.service.control_socket import GuestRequest, PublishedStatus, Requests, control_server
from vfagent.service.varlink import LIMITS, Limits, VarlinkError, VarlinkServer

Talk = Callable[[Path], object]
START = "io.vfagent.Guest.Start"
DENIED = "org.varlink.service.PermissionDenied"


async def handler(verb: str, guest: str) -> str | None:
    return None if guest == "x" else f"cannot {verb} {guest}"


async def reloaded(confirm_s: int | None) -> str:
    if confirm_s == 13:
        raise PolicyError(["policy.toml:1:1: x: found y"])
    return f"digest, confirm within {confirm_s}"


async def no_trial() -> str:
    raise VarlinkError("io.vfagent.NothingToConfirm")


async def planned() -> str:
    return '{"settled":true}'


async def released(pf: str, force: bool) -> str:  # noqa: FBT001
    if not force:
        raise RefusedError(f"{pf}: cannot release it: vf0: its netdev is up", hint="stop what uses it")
    return "0000:01:00.0"


def control(
    root: Path,
    answer: GuestRequest = handler,
    status: PublishedStatus | None = None,
    limits: Limits = LIMITS,
    plan: Callable[[], Awaitable[str]] = planned,
) -> VarlinkServer:
    (root / "run/vfagent").mkdir(parents=True, exist_ok=True)
    requests = Requests(answer, reloaded, no_trial, plan, released)
    return control_server(root, status or PublishedStatus(), requests, limits)


def served(root: Path, talk: Talk, answer: GuestRequest = handler, limits: Limits = LIMITS) -> Any:
    """The result of `talk`, while a server runs."""

    async def both() -> object:
        server = control(root, answer, limits=limits)
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


def request(method: str, **more: object) -> bytes:
    return json.dumps({"method": method, **more}).encode() + b"\0"


def error(root: Path, method: str, **parameters: object) -> tuple[str, dict[str, Any]]:
    with pytest.raises(ErrorReplyError) as raised:
        call(root, method, **parameters)
    return raised.value.name, raised.value.parameters


def test_a_request_is_answered(tmp_path: Path) -> None:
    assert served(tmp_path, lambda root: call(root, START, name="x")) == {}
    refused = served(tmp_path, lambda root: error(root, "io.vfagent.Guest.Stop", name="y"))
    assert refused == ("io.vfagent.Guest.Refused", {"reason": "cannot stop y"})


def test_a_refused_policy_is_an_error_with_all_its_problems(tmp_path: Path) -> None:
    assert served(tmp_path, lambda root: call(root, "io.vfagent.Reload")) == {"digest": "digest, confirm within None"}
    refused = served(tmp_path, lambda root: error(root, "io.vfagent.Reload", confirm_s=13))
    problems = {"problems": ["policy.toml:1:1: x: found y"], "unread": False}
    assert refused == ("io.vfagent.PolicyRefused", problems)
    assert served(tmp_path, lambda root: error(root, "io.vfagent.Confirm"))[0] == "io.vfagent.NothingToConfirm"


def test_a_plan_is_an_object_and_a_release_says_why_not(tmp_path: Path) -> None:
    assert served(tmp_path, lambda root: call(root, "io.vfagent.Plan")) == {"plan": {"settled": True}}
    release = "io.vfagent.Release"
    assert served(tmp_path, lambda root: call(root, release, pf="ens1", force=True)) == {"address": "0000:01:00.0"}
    refused = served(tmp_path, lambda root: error(root, release, pf="ens1"))
    why = {"reason": "ens1: cannot release it: vf0: its netdev is up", "hint": "stop what uses it", "in_use": True}
    assert refused == ("io.vfagent.Refused", why)


def test_every_interface_and_method_is_described(tmp_path: Path) -> None:
    info = served(tmp_path, lambda root: call(root, "org.varlink.service.GetInfo"))
    assert info["interfaces"] == ["org.varlink.service", *INTERFACES]
    for interface in info["interfaces"]:
        describe = partial(call, method="org.varlink.service.GetInterfaceDescription", interface=interface)
        described = served(tmp_path, describe)
        assert f"\ninterface {interface}\n" in f"\n{described['description']}"
    methods = [f"{i}.{line.split()[1].split('(')[0]}" for i, text in INTERFACES.items() for line in text.splitlines()
               if line.startswith("method ")]  # fmt: skip
    for method in methods:
        name, _ = served(tmp_path, partial(error, method=method, wrong=1))
        assert name == "org.varlink.service.InvalidParameter"


@pytest.mark.parametrize(
    ("method", "parameters", "name"),
    [
        ("io.vfagent.Guest.Restart", {}, "MethodNotFound"),
        ("io.other.Start", {}, "InterfaceNotFound"),
        ("org.varlink.service.Other", {}, "MethodNotFound"),
        (START, {}, "InvalidParameter"),
        (START, {"name": 1}, "InvalidParameter"),
        ("io.vfagent.Release", {}, "InvalidParameter"),
        ("io.vfagent.Release", {"pf": "ens1", "force": 1}, "InvalidParameter"),
        ("io.vfagent.Reload", {"confirm_s": True}, "InvalidParameter"),
        ("io.vfagent.Reload", {"confirm_s": 0}, "InvalidParameter"),
        ("io.vfagent.Reload", {"confirm_s": 10**30}, "InvalidParameter"),
        ("io.vfagent.Monitor", {}, "ExpectedMore"),
        ("org.varlink.service.GetInterfaceDescription", {}, "InvalidParameter"),
        ("org.varlink.service.GetInterfaceDescription", {"interface": "io.other"}, "InterfaceNotFound"),
    ],
)
def test_a_wrong_call_is_an_error_of_varlink(
    tmp_path: Path, method: str, parameters: dict[str, object], name: str
) -> None:
    assert served(tmp_path, lambda root: error(root, method, **parameters))[0] == f"org.varlink.service.{name}"


def test_a_connection_takes_several_calls_and_no_answer_to_a_oneway_one(tmp_path: Path) -> None:
    calls = request(START, parameters={"name": "x"}, oneway=True) + request(START, parameters={"name": "x"})
    assert served(tmp_path, lambda root: raw(root, calls)) == b'{"parameters":{}}\0'


def test_the_status_is_monitored_until_the_client_closes(tmp_path: Path) -> None:
    async def both() -> object:
        status = PublishedStatus()
        server = control(tmp_path, status=status)
        await server.start()
        status.publish('{"number":1}')
        replies = monitor(tmp_path, "io.vfagent.Monitor", time.monotonic() + 30)
        first = await asyncio.to_thread(next, replies)
        status.publish('{"number":2}')
        second = await asyncio.to_thread(next, replies)
        replies.close()
        server.stop()
        await asyncio.sleep(0.05)
        return [first, second]

    assert run_to_end(both()) == [{"status": {"number": 1}}, {"status": {"number": 2}}]


def test_a_server_that_could_not_listen_does_so_at_the_next_start(tmp_path: Path) -> None:
    async def twice() -> object:
        server = control(tmp_path)
        (tmp_path / "run/vfagent").rmdir()
        await server.start()
        (tmp_path / "run/vfagent").mkdir()
        await server.start()
        result = await asyncio.to_thread(call, tmp_path, START, name="x")
        server.stop()
        await server.start()
        assert not (tmp_path / SOCKET).exists()
        await asyncio.sleep(0.05)
        return result

    assert run_to_end(twice()) == {}


def by_nobody(*requests: bytes) -> Talk:
    """What a user without rights gets, where the modes of the folders let it connect."""

    def talk(root: Path) -> object:
        fd = os.open((root / SOCKET).parent, os.O_PATH)  # pytest's folders are closed to others
        program = f"""
import os, socket
os.fchdir({fd})
os.setresuid(65534, 65534, 65534)
for request in {requests!r}:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect({Path(SOCKET).name!r})
    client.sendall(request)
    print(client.recv(4096).decode().strip(chr(0)))
"""
        argv = [sys.executable, "-c", program]
        done = subprocess.run(argv, pass_fds=[fd], capture_output=True, text=True, check=False)
        os.close(fd)
        assert done.stderr == ""
        return [json.loads(line) for line in done.stdout.splitlines()]

    return talk


def test_a_peer_that_is_not_root_reads_and_changes_nothing(tmp_path: Path) -> None:
    asked: list[str] = []

    async def noted(verb: str, guest: str) -> str | None:
        asked.append(guest)
        return None

    changes = [request(START, parameters={"name": "x"}), *map(request, ("io.vfagent.Reload", "io.vfagent.Confirm"))]
    changes.append(request("io.vfagent.Release", parameters={"pf": "ens1", "force": True}))
    reads = [request("io.vfagent.Status"), request("io.vfagent.Plan")]
    answers = served(tmp_path, by_nobody(*reads, *changes), noted)
    shown = [{"parameters": {"status": None}}, {"parameters": {"plan": {"settled": True}}}]
    assert answers == [*shown, *[{"error": DENIED, "parameters": {}}] * 4]
    assert not asked


def test_others_cannot_keep_root_out(tmp_path: Path) -> None:
    """Each of their connections waits for its call; root's are counted apart."""

    def talk(root: Path) -> object:
        fd = os.open((root / SOCKET).parent, os.O_PATH)
        program = f"""
import os, socket, sys
os.fchdir({fd})
os.setresuid(65534, 65534, 65534)
clients = [socket.socket(socket.AF_UNIX) for _ in range(300)]
for client in clients:
    client.connect({Path(SOCKET).name!r})
print("open", flush=True)
sys.stdin.read()
"""
        argv = [sys.executable, "-c", program]
        with subprocess.Popen(argv, pass_fds=[fd], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as others:
            os.close(fd)
            assert others.stdout is not None
            assert others.stdout.readline() == b"open\n"
            return call(root, START, name="x")

    assert served(tmp_path, talk) == {}


@pytest.mark.parametrize(
    "data",
    [b"{}\0", b"\0", b"[1]\0", b"\xff\0", b"x" * 100_000 + b"\0", b"[" * 3000 + b"\0", b'{"method": 1}\0'],
    ids=["empty", "blank", "list", "bytes", "long", "deep", "method"],
)
def test_an_invalid_request_is_not_answered_and_does_not_stop_the_server(tmp_path: Path, data: bytes) -> None:
    def talk(root: Path) -> object:
        return raw(root, data), call(root, START, name="x")

    assert served(tmp_path, talk) == (b"", {})


def test_a_guest_name_may_be_any_text(tmp_path: Path) -> None:
    answer = served(tmp_path, lambda root: error(root, START, name="../x"))
    assert answer == ("io.vfagent.Guest.Refused", {"reason": "cannot start ../x"})


def test_without_an_agent_the_error_is_file_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        call(tmp_path, START, name="x")
    served(tmp_path, lambda root: None)
    (tmp_path / "run/vfagent").mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / SOCKET))
    with pytest.raises(FileNotFoundError):
        call(tmp_path, START, name="x")


def answered_with(tmp_path: Path, answer: bytes) -> None:
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
        call(tmp_path, START, name="x")


@pytest.mark.parametrize(
    "answer", [b"", b"{}\0", b"[]\0", b'{"parameters": 1}\0', b"\xff\0", b"[" * 5000 + b"\0", b"x" * (1 << 17)],
    ids=["none", "empty", "list", "number", "bytes", "deep", "endless"],
)  # fmt: skip
def test_an_answer_that_is_none_is_an_error(tmp_path: Path, answer: bytes) -> None:
    with pytest.raises(VfagentError, match=r"the service gave (no answer|an answer of)"):
        answered_with(tmp_path, answer)


def test_forty_requests_at_once_are_all_answered(tmp_path: Path) -> None:
    """As with `parallel vfagent guest start ::: …`; sixteen are handled at a time."""
    running, most = 0, 0

    async def slow(verb: str, guest: str) -> str | None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.2)
        running -= 1
        return guest

    def talk(root: Path) -> list[object]:
        with ThreadPoolExecutor(40) as pool:
            return list(pool.map(lambda number: error(root, START, name=str(number))[1], range(40)))

    assert served(tmp_path, talk, slow) == [{"reason": str(number)} for number in range(40)]
    assert most == 16


def test_requests_beyond_the_limit_are_refused(tmp_path: Path) -> None:
    refused = served(tmp_path, lambda root: error(root, START, name="x"), limits=Limits(open=0))
    assert refused == ("io.vfagent.TooManyRequests", {})


@contextlib.contextmanager
def monitoring(root: Path) -> Iterator[socket.socket]:
    """A client that asks for the status and reads none of it."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(root / SOCKET))
        client.sendall(request("io.vfagent.Monitor", more=True))
        yield client


def published(size: int) -> PublishedStatus:
    status = PublishedStatus()
    status.publish(f'"{size * "x"}"')
    return status


def test_a_client_that_never_reads_is_disconnected(tmp_path: Path) -> None:
    async def scenario() -> None:
        server = control(tmp_path, status=published(1 << 24), limits=Limits(call_s=0.5))
        await server.start()
        with monitoring(tmp_path):
            opened = descriptors()
            await until(lambda: len(server.descriptors) == 2)
            await until(lambda: len(server.descriptors) == 1 and len(descriptors()) == len(opened))
        server.stop()

    run_to_end(scenario())


def test_a_client_that_never_reads_does_not_delay_the_stop(tmp_path: Path) -> None:
    async def scenario() -> None:
        server = control(tmp_path, status=published(1 << 24), limits=Limits(call_s=600.0))
        await server.start()
        stack.enter_context(monitoring(tmp_path))
        await until(lambda: len(server.descriptors) == 2)
        await asyncio.sleep(0.1)
        server.stop()

    with contextlib.ExitStack() as stack:
        asyncio.run(scenario())


def test_a_worker_does_not_keep_a_client_waiting(tmp_path: Path) -> None:
    """For the end of its connection, while the worker hangs."""

    async def scenario() -> bytes:
        server = control(tmp_path)
        await server.start()
        workers = Workers(lambda: server.descriptors)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(0.0)
            client.connect(str(tmp_path / SOCKET))
            await asyncio.sleep(0.1)
            hanging = asyncio.create_task(workers.call(lambda: time.sleep(60), deadline_s=60.0))
            await asyncio.sleep(0.1)
            client.sendall(b"{}\0")
            answer = await asyncio.get_running_loop().sock_recv(client, 4096)
        hanging.cancel()
        await asyncio.wait({hanging})
        server.stop()
        return answer

    assert run_to_end(scenario()) == b""


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
            call(tmp_path, START, name="x")
    assert raised.value.hint


def test_calls_of_others_do_not_delay_roots(tmp_path: Path) -> None:
    """As many plans as others can ask for, each of which takes its time."""
    asked, answered = 0, asyncio.Event()

    async def slow() -> str:
        nonlocal asked
        asked += 1
        await answered.wait()
        return "{}"

    def talk() -> object:
        program = f"""
import os, socket, sys
os.fchdir({fd})
os.setresuid(65534, 65534, 65534)
clients = [socket.socket(socket.AF_UNIX) for _ in range(16)]
for client in clients:
    client.connect({Path(SOCKET).name!r})
    client.sendall({request("io.vfagent.Plan")!r})
print("asked", flush=True)
sys.stdin.read()
"""
        argv = [sys.executable, "-c", program]
        with subprocess.Popen(argv, pass_fds=[fd], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as others:
            assert others.stdout is not None
            assert others.stdout.readline() == b"asked\n"
            until = time.monotonic() + 10
            while asked < LIMITS.at_once_of_others and time.monotonic() < until:
                time.sleep(0.01)
            return call(tmp_path, START, name="x"), asked

    async def both() -> object:
        server = control(tmp_path, plan=slow)
        await server.start()
        result = await asyncio.wait_for(asyncio.to_thread(talk), 20)
        answered.set()
        server.stop()
        await asyncio.sleep(0.05)
        return result

    (tmp_path / "run/vfagent").mkdir(parents=True)
    fd = os.open(tmp_path / "run/vfagent", os.O_PATH)
    assert run_to_end(both()) == ({}, LIMITS.at_once_of_others)
    os.close(fd)
