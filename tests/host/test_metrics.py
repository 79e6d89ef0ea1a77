# SPDX-License-Identifier: Apache-2.0
"""/metrics over real sockets: served and refused clients, and the cost of hostile ones."""

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.host.leaks import run_to_end
from tests.host.namespace import ip
from tests.host.scrape import PORT, REQUEST, ask, connect, value
from tests.host.waiting import LIMIT_S, until
from tests.unit.metrics import views
from vfagent.metrics import server
from vfagent.metrics.counters import Counters
from vfagent.metrics.endpoint import Endpoint
from vfagent.metrics.limits import CLIENT_LIMITS, ClientLimits
from vfagent.metrics.page import Format, Page
from vfagent.metrics.renderer import Renderer
from vfagent.metrics.serving import Serving
from vfagent.policy.types import AgentRule
from vfagent.process import worker
from vfagent.process.workers import Workers

WHERE = f"127.0.0.1:{PORT}"
TEXT = REQUEST
OPENMETRICS = (  # as Prometheus 2.42 sends it
    REQUEST[:-2] + b"Accept: application/openmetrics-text;version=1.0.0,application/openmetrics-text;"
    b"version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n\r\n"
)


@pytest.fixture(autouse=True)
def network(kernel: None) -> None:
    ip("link", "set", "lo", "up")


def endpoint(counters: Counters | None = None, limits: ClientLimits = CLIENT_LIMITS) -> Endpoint:
    status = views.view().status
    return Endpoint(lambda: status, views.about, counters or views.counters(), dict, Workers(), dict, limits)


def serving(
    body: Callable[[Endpoint], Coroutine[Any, Any, None]],
    metrics: str = WHERE,
    limits: ClientLimits = CLIENT_LIMITS,
    **rule: Any,
) -> None:
    """Run `body` beside a server; nothing of either may be left at the end."""

    async def run() -> None:
        served = endpoint(limits=limits)
        served.configure(AgentRule(metrics=metrics, **rule))
        try:
            await body(served)
        finally:
            await served.stop()

    run_to_end(run())


def test_the_page_is_served() -> None:
    async def body(_: Endpoint) -> None:
        plain = await ask()
        assert (plain.status, plain.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert value(plain.text, "vfagent_pf_vfs_actual", views.STORAGE) == 4
        packed = await ask(REQUEST[:-2] + b"Accept-Encoding: gzip\r\n\r\n")
        assert packed.headers["content-encoding"] == "gzip"
        assert without_process(packed.text) == without_process(plain.text)
        assert without_process((await ask(b"GET /metrics HTTP/1.0\r\n\r\n")).text) == without_process(plain.text)

    serving(body)


def without_process(page: str) -> list[str]:
    return [line for line in page.splitlines() if not line.startswith("process_")]


def test_prometheus_gets_openmetrics() -> None:
    async def body(_: Endpoint) -> None:
        answer = await ask(OPENMETRICS)
        assert answer.headers["content-type"].startswith("application/openmetrics-text; ")
        assert "Accept" in answer.headers["vary"]
        families = {family.name: family for family in text_string_to_metric_families(answer.text)}  # type: ignore[no-untyped-call]
        (rounds,) = families["vfagent_rounds"].samples
        assert (rounds.name, rounds.value) == ("vfagent_rounds_total", 1234567)
        assert "version=0.0.4" in (await ask()).headers["content-type"]

    serving(body)


def test_the_process_metrics_are_the_agents() -> None:
    async def body(_: Endpoint) -> None:
        page = (await ask()).text
        started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
        assert value(page, "process_start_time_seconds") == pytest.approx(started + int(boot.split()[1]), abs=0.02)
        assert value(page, "process_open_fds") > 3

    serving(body)


@pytest.mark.parametrize("path", ["/metrics", "/", "/-/ready", "/-/healthy", "/nothing"])
def test_head_is_answered_without_a_body(path: str) -> None:
    async def compare(_: Endpoint) -> None:
        heads, bodies = list[dict[str, str]](), list[bytes]()
        for method in ("GET", "HEAD"):
            reader, writer = await connect()
            writer.write(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            head, _empty, rest = (await reader.read(-1)).partition(b"\r\n\r\n")
            heads.append(dict(line.split(": ") for line in head.decode().splitlines()[1:]))
            bodies.append(rest)
            writer.close()
        assert bodies[0]
        assert not bodies[1]
        assert heads[0].keys() == heads[1].keys()
        assert int(heads[0]["Content-Length"]) == len(bodies[0])

    serving(compare)


def test_ready_is_503_until_the_agent_is_ready() -> None:
    readiness = [False]

    async def run() -> None:
        status = views.view().status
        served = Endpoint(
            lambda: status, lambda: views.about(ready=readiness[0]), views.counters(), dict, Workers(), dict
        )
        served.configure(AgentRule(metrics=WHERE))
        ready = b"GET /-/ready HTTP/1.1\r\n\r\n"
        assert (await ask(ready)).status == 503
        assert (await ask(b"GET /-/healthy HTTP/1.1\r\n\r\n")).status == 200
        readiness[0] = True
        assert (await ask(ready)).status == 200
        await served.stop()

    run_to_end(run())


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 200),
        (b"GET /metricsx HTTP/1.1\r\n\r\n", 404),
        (b"GET /../etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"\x16\x03\x01\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"a" * 8200, 431),
    ],
)
def test_any_other_request_is_refused(request_: bytes, status: int) -> None:
    async def body(_: Endpoint) -> None:
        assert (await ask(request_)).status == status

    serving(body)


def test_the_page_is_rendered_by_another_process() -> None:
    async def run() -> None:
        status = views.view().status
        served = Endpoint(
            lambda: replace(status, version=str(os.getpid())), views.about, views.counters(), dict, Workers(), dict
        )
        served.configure(AgentRule(metrics=WHERE))
        page = (await ask()).text
        assert "vfagent_build_info" in page
        assert f'version="{os.getpid()}"' not in page
        await served.stop()

    run_to_end(run())


def test_scrapes_in_parallel_share_one_page(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[float] = []

    start = worker.start

    def counted(body: Any, **options: Any) -> Any:
        if body.args[0].__module__ == Renderer.__module__:
            made.append(time.monotonic())
        return start(body, **options)

    monkeypatch.setattr(worker, "start", counted)

    async def body(_: Endpoint) -> None:
        began = time.monotonic()
        answers = await asyncio.gather(*(ask() for _ in range(100)))
        took_s = time.monotonic() - began
        assert {answer.status for answer in answers} == {200}
        assert len({answer.body for answer in answers}) <= len(made) <= 1 + 2 * took_s

    serving(body)


def test_a_page_shows_changes_after_the_last_one() -> None:
    counters = views.counters()

    async def run() -> None:
        served = endpoint(counters)
        served.configure(AgentRule(metrics=WHERE))
        for form in (TEXT, OPENMETRICS):
            counters.uevents += 1
            end = time.monotonic() + LIMIT_S
            while value((await ask(form)).text, "vfagent_uevents_total") != counters.uevents:
                assert time.monotonic() < end
        await served.stop()

    run_to_end(run())


def test_a_scrape_gets_503_while_no_child_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    async def body(_: Endpoint) -> None:
        monkeypatch.setattr(worker, "start", refused)
        assert (await ask()).status == 503
        monkeypatch.undo()
        assert (await ask()).status == 200

    serving(body)


async def flood(size: int) -> None:
    """An endless header, until the server closes the connection."""
    reader, writer = await connect()
    try:
        writer.write(b"GET /metrics HTTP/1.1\r\nX: ")
        for _ in range(size // 65536):
            writer.write(b"a" * 65536)
            await writer.drain()
        await reader.read(-1)
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()


def resident_kib() -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def test_headers_of_a_megabyte_are_cut_off_and_cost_no_memory() -> None:
    async def body(served: Endpoint) -> None:
        await ask()
        await flood(1 << 20)
        before = resident_kib()
        for _ in range(30):
            await flood(1 << 20)
        assert resident_kib() - before < 2048
        await until(lambda: len(served.descriptors) == 1, lambda: served.descriptors, within_s=3.0)
        assert (await ask()).status == 200

    serving(body)


def test_the_memory_of_many_clients_is_returned_to_the_kernel() -> None:
    """Freed memory below an allocation that stays: glibc keeps it without malloc_trim."""

    async def body(served: Endpoint) -> None:
        taken = [bytearray(4000) for _ in range(4000)]
        lasting = bytearray(4000)
        clients = [await connect() for _ in range(16)]
        await until(lambda: len(served.descriptors) == 1 + len(clients), lambda: served.descriptors, within_s=3.0)
        del taken
        before = resident_kib()
        for _, writer in clients:
            writer.transport.abort()
        await until(lambda: len(served.descriptors) == 1, lambda: served.descriptors, within_s=3.0)
        assert before - resident_kib() > 12_000
        assert lasting is not None

    serving(body)


def test_a_silent_client_is_disconnected() -> None:
    async def body(_: Endpoint) -> None:
        for sent in (b"", b"GET /metr", REQUEST[:-1]):
            began = time.monotonic()
            reader, writer = await connect()
            writer.write(sent)
            assert await _end(reader) == b""
            assert 0.2 < time.monotonic() - began < 2
            writer.transport.abort()

    serving(body, limits=ClientLimits(read_s=0.3))


async def _end(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(-1)
    except ConnectionError:
        return b""


def test_slow_clients_do_not_keep_the_others_out() -> None:
    """Three times as many as the limit, each with a byte every 50 ms; they make room for waiting clients."""

    async def crawl() -> None:
        reader, writer = await connect()
        for byte in b"GET /" + b"a" * 1000:
            if reader.at_eof() or reader.exception():
                break
            writer.write(bytes([byte]))
            await asyncio.sleep(0.05)
        writer.transport.abort()

    async def body(_: Endpoint) -> None:
        began = time.monotonic()
        crawlers = [asyncio.create_task(crawl()) for _ in range(3 * server.MOST_CONNECTIONS)]
        await asyncio.sleep(0.2)
        assert (await ask()).status == 200
        assert time.monotonic() - began < 5
        async with asyncio.timeout(6):
            await asyncio.gather(*crawlers)

    serving(body, limits=ClientLimits(read_s=2.0))


def test_a_client_that_does_not_read_is_disconnected_and_costs_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"x" * (8 << 20)

    async def large(self: Serving, form: Format) -> Page:
        return Page(text, len(text), "text/plain")

    monkeypatch.setattr(Serving, "page", large)

    async def body(served: Endpoint) -> None:
        before = resident_kib()
        writers = [(await connect())[1] for _ in range(20)]
        for writer in writers:
            reading: Any = writer.transport
            reading.pause_reading()
            writer.write(REQUEST[:-2] + b"Accept-Encoding: gzip\r\n\r\n")
        await asyncio.sleep(0.2)
        assert len(served.descriptors) == 21
        assert resident_kib() - before < 8192
        await until(lambda: len(served.descriptors) == 1, lambda: served.descriptors, within_s=3.0)
        for writer in writers:
            writer.transport.abort()

    serving(body, limits=ClientLimits(write_s=0.5))


def test_a_client_that_closes_its_sending_side_gets_its_answer() -> None:
    async def body(_: Endpoint) -> None:
        reader, writer = await connect()
        writer.write(REQUEST)
        writer.write_eof()
        assert (await reader.read(-1)).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()

    serving(body)


def test_a_client_that_resets_the_connection_leaves_nothing_behind() -> None:
    async def body(served: Endpoint) -> None:
        for sent in (b"", b"GET", REQUEST):
            _, writer = await connect()
            linger = b"\x01\0\0\0\0\0\0\0"  # on, 0 s: a reset instead of an end
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.write(sent)
            writer.transport.abort()
        await until(lambda: len(served.descriptors) == 1, lambda: served.descriptors, within_s=3.0)
        assert (await ask()).status == 200

    serving(body)


def test_promtool_accepts_the_served_page() -> None:
    async def body(_: Endpoint) -> None:
        page = (await ask()).body
        done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")

    serving(body)
