# SPDX-License-Identifier: Apache-2.0
"""The cost of scrapes: `python3 -m tests.bench.scrapes`, as root.

Scrapes of 1,024 VFs, each of a new page; and convergences without and with hostile clients (100 scrapes at once, slow
requests, headers of a megabyte), in turns. The kernel is a fake one that takes 1.5 s to create VFs; the agent, its
workers and its sockets are real.
"""

import argparse
import asyncio
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.bench.processes import connections, cpu_s
from tests.host.fake_kernel import FakeKernel
from tests.host.namespace import ip, private_kernel
from tests.host.scrape import PORT, REQUEST, ask, connect
from tests.host.test_agent import PF, Service
from tests.unit.metrics import views
from tests.unit.states import pf_state
from vfagent.kernel.vf_counters import VfCounters
from vfagent.metrics.address import listen
from vfagent.metrics.counters import Counters
from vfagent.metrics.limits import CLIENT_LIMITS
from vfagent.metrics.page import Format
from vfagent.metrics.renderer import Renderer
from vfagent.metrics.server import Server
from vfagent.metrics.view import PfTraffic, View
from vfagent.model.pci import PciAddress
from vfagent.process.workers import Workers
from vfagent.reconcile.pf_state import PfState
from vfagent.reconcile.status import snapshot
from vfagent.service.status_cache import StatusCache

PFS, VFS, SCRAPES = 8, 128, 20
BUSY = 9 * 10**12  # a VF's bytes or packets
COUNT, KERNEL_S, LIMIT_S = 7, 1.5, 60
POLICY = (
    '[[pf]]\nname = "all"\nmatch = {{ driver = "igb" }}\nvfs = {count}\n[[pf.vf]]\nindex = "*"\ndriver = "vfio-pci"\n'
)


# One scrape


def _many_pfs() -> tuple[list[PfState], dict[str, PfTraffic]]:
    states, traffic = list[PfState](), dict[str, PfTraffic]()
    for number in range(PFS):
        address = PciAddress(f"0000:{number:02x}:00.0")
        state = views.converging()
        assert state.pf
        pf = replace(state.pf, address=address, vfs=tuple(views.vf(index) for index in range(VFS)))
        states.append(pf_state(address, pf, state.desired))
        traffic[address] = {index: VfCounters(*range(BUSY, BUSY + 8)) for index in range(VFS)}
    return states, traffic


async def _serve_large_pages() -> None:
    counters = Counters()
    states, traffic = _many_pfs()
    cache = StatusCache()
    cache.of(states)  # status.json was written

    def view() -> View:
        return View(snapshot(cache.of(states), views.POLICY, "1", ready=True), counters, traffic)

    workers = Workers()
    renderer = Renderer(view, workers)
    Server(listen(f"127.0.0.1:{PORT}"), renderer.page, views.about, lambda: None, workers, CLIENT_LIMITS)
    await asyncio.Event().wait()


async def _scrape(form: Format) -> float:
    began = time.monotonic()
    answer = await ask(REQUEST[:-2] + f"Accept-Encoding: gzip\r\nAccept: {form.value}\r\n\r\n".encode())
    took = time.monotonic() - began
    assert answer.text.count("\nvfagent_vf_info{") == PFS * VFS
    return took


def scrape_times(form: Format) -> tuple[list[float], float]:
    """Seconds of each scrape, and the CPU time of each, which does not grow on a busy machine."""
    with subprocess.Popen([sys.executable, "-m", "tests.bench.scrapes", "--serve"]) as server:
        _wait_for_port()
        asyncio.run(_scrape(form))
        before, times = cpu_s(server.pid), []
        for _ in range(SCRAPES):
            time.sleep(0.6)  # the server reuses a page for half a second
            times.append(asyncio.run(_scrape(form)))
        cost_s = (cpu_s(server.pid) - before) / SCRAPES
        server.terminate()
    return times, cost_s


def _wait_for_port() -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", PORT)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return


# Hostile clients


async def _burst() -> None:
    while True:
        await asyncio.gather(*(ask() for _ in range(100)), return_exceptions=True)
        await asyncio.sleep(0.5)


async def _crawl() -> None:
    while True:
        _, writer = await connect()
        try:
            for byte in b"GET /" + b"a" * 1000:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.1)
        except ConnectionError:
            pass
        writer.transport.abort()


async def _flood() -> None:
    while True:
        _, writer = await connect()
        try:
            writer.write(b"GET /metrics HTTP/1.1\r\nX: " + b"a" * (1 << 20))
            await writer.drain()
        except ConnectionError:
            pass
        writer.transport.abort()
        await asyncio.sleep(0.5)


async def _be_hostile() -> None:
    await asyncio.gather(_burst(), _flood(), *(_crawl() for _ in range(10)))


@contextmanager
def _clients(*, hostile: bool) -> Iterator[None]:
    if not hostile:
        yield
        return
    with subprocess.Popen([sys.executable, "-m", "tests.bench.scrapes", "--be-hostile"]) as clients:
        time.sleep(1.0)
        yield
        clients.terminate()


# A convergence


def _converge(files: FakeKernel, service: Service, count: int) -> float:
    """From the reload to the end of the kernel's last write."""
    files.tree.policy(POLICY.format(count=count))
    began = time.monotonic()
    service.signal(signal.SIGHUP)
    service.until(lambda: _settled(files, service, count), within_s=LIMIT_S)
    return max(write.ended for write in files.writes() if write.began >= began) - began


def _settled(files: FakeKernel, service: Service, count: int) -> bool:
    service.hear()
    pf = service.pf()
    bound = all(vf["driver"] == "vfio-pci" for vf in pf["vfs"])
    return pf["phase"] == "converged" and pf["vfs_actual"] == pf["vfs_desired"] == count and bound


def _resident_kib(service: Service) -> int:
    lines = Path(f"/proc/{service.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def convergence_times(pairs: int, folder: Path) -> tuple[list[float], list[float], list[int]]:
    """Seconds without and with hostile clients, and the agent's memory after each pair."""
    files, quiet, stormy, resident_kib = FakeKernel(folder / "root"), list[float](), list[float](), list[int]()
    files.tree.policy(POLICY.format(count=0))
    files.tree.add_pf(PF)
    files.slow_down(PF, "sriov_numvfs", KERNEL_S)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(folder / "notify"))
        systemd.settimeout(0)
        service = Service(files.tree.root, systemd, folder / "notify").ready()
        for _ in range(pairs + 1):
            for hostile, times in ((False, quiet), (True, stormy)):
                with _clients(hostile=hostile):
                    times.append(_converge(files, service, COUNT))
                _converge(files, service, 0)
            service.until(lambda: not connections(service.process.pid))
            resident_kib.append(_resident_kib(service))
        assert service.stop() == 0
    return quiet[1:], stormy[1:], resident_kib[1:]  # the first pair only warms up


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m tests.bench.scrapes", description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--be-hostile", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve or options.be_hostile:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        asyncio.run(_serve_large_pages() if options.serve else _be_hostile())
    with private_kernel(), tempfile.TemporaryDirectory() as name:
        ip("link", "set", "lo", "up")
        for form in Format:
            _report_scrapes(form, *scrape_times(form))
        _report(*convergence_times(options.pairs, Path(name)))


def _report_scrapes(form: Format, scrapes: list[float], cost_s: float) -> None:
    low, middle, high = min(scrapes), statistics.median(scrapes), max(scrapes)
    times = f"min {1e3 * low:.0f}, median {1e3 * middle:.0f}, max {1e3 * high:.0f} ms"
    print(
        f"{form.name}, a scrape of {PFS * VFS} VFs: {times}; of the server's CPU time: {1e3 * cost_s:.0f} ms",
        flush=True,
    )


def _report(quiet: list[float], stormy: list[float], memory: list[int]) -> None:
    ratios = [value / other for value, other in zip(stormy, quiet, strict=True)]
    print(f"{COUNT} VFs, without hostile clients: median {statistics.median(quiet):.2f} s")
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    print(f"with them, as ratios in pairs: min {low:.3f}, median {middle:.3f}, max {high:.3f}")
    print(f"the agent's memory after each pair: {', '.join(f'{kib / 1024:.1f}' for kib in memory)} MiB")


if __name__ == "__main__":
    main()
