# SPDX-License-Identifier: Apache-2.0
"""How cost grows with the host: `python3 -m tests.bench.scale`, as root; up to 64 PFs with 128 VFs each.

The kernel is made of files there, in memory, and what PFs hold for their VFs comes as netlink messages, as from a real
one. A look is measured in this process; the rest with the agent, its workers and its sockets, on such a host.
"""

import argparse
import json
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tests.bench.processes import cpu_s, pss_mib
from tests.host.fake_kernel import FakeKernel
from tests.host.namespace import private_kernel
from tests.host.netlink import VfInfo, link_message
from tests.host.test_agent import Service
from tests.host.uevents import message, send
from vfagent.kernel.getlink import link_in
from vfagent.kernel.link_facts import link_facts
from vfagent.kernel.offline_tree import SysfsRtnl
from vfagent.kernel.protocols import Host, LinkFacts
from vfagent.reconcile.observe import pf_addresses
from vfagent.reconcile.rounds import Task, look
from vfagent.store.identity import read_identity
from vfagent.store.policy_files import load

SIZES, VFS, LIMIT_S = (1, 4, 16, 64), 128, 600
POLICY = (
    '[[pf]]\nname = "all"\nmatch = {{ driver = "igb" }}\nvfs = {count}\n'
    '[[pf.vf]]\nindex = "*"\ndriver = "vfio-pci"\nvlan = 10\n'
)
MORE = '[[pf]]\nname = "none"\nmatch = {{ driver = "ice" }}\nvfs = 1\n'


@dataclass(frozen=True)
class Found:
    """Seconds of processor time, but for `converged_s`, which passed; memory of the agent and all its workers."""

    pfs: int
    look_s: float
    converged_s: float
    event_s: float
    event_looks: int
    reload_s: float
    idle_mib: float
    peak_mib: float


class RecordedRtnl(SysfsRtnl):
    """A PF's port is up, and each of its VFs as the policy wants it."""

    def __init__(self, host: Host) -> None:
        super().__init__(host.sysfs)
        infos = [VfInfo(index, vlan=10).pack() for index in range(VFS)]
        self._infos, self._messages = infos, dict[int, bytes]()

    def link(self, ifindex: int, *, vfs: bool) -> LinkFacts | None:
        if ifindex not in self._messages:
            self._messages[ifindex] = link_message(ifindex, f"pf{ifindex}", *self._infos, flags=0x10001)
        return link_facts(link_in(self._messages[ifindex]))


def _add_pfs(files: FakeKernel, count: int, *, vfs: int, interface: bool) -> list[str]:
    pfs = [f"0000:{number:02x}:00.0" for number in range(1, count + 1)]
    for number, pf in enumerate(pfs, 1):
        files.tree.add_pf(pf, vfs=vfs, totalvfs=VFS, interface=f"pf{number}" if interface else "")
        for address in files.tree.vfs(pf):
            files.tree.bind(address, "vfio-pci")
            files.tree.add_device(address, driver_override="vfio-pci")
        files.tree.add_device(pf, sriov_drivers_autoprobe="0" if vfs else "1")
    return pfs


def look_s(count: int, folder: Path) -> float:
    """Of every PF of a host on which there is nothing to do: the least of three."""
    files = FakeKernel(folder)
    files.tree.policy(POLICY.format(count=VFS))
    _add_pfs(files, count, vfs=VFS, interface=True)
    host = replace(files.host, rtnl=RecordedRtnl(files.host))
    policy, identity = load(folder), read_identity(folder)

    def all_pfs() -> float:
        began = time.process_time()
        for address in pf_addresses(host):
            task = Task(address, policy, identity)
            assert look(task, host, task.driver_state).plan.settled
        return time.process_time() - began

    return min(all_pfs() for _ in range(3))


# With the agent


class Measured:
    """A running agent, and what it and its workers cost since the last question."""

    def __init__(self, service: Service) -> None:
        self.service, self.pid = service, service.process.pid
        self.peak_mib = self._before = 0.0

    def cpu_s(self) -> float:
        """Since it was last asked; workers count once they have ended."""
        now = cpu_s(self.pid)
        since, self._before = now - self._before, now
        return since

    def mib(self) -> float:
        found = pss_mib(self.pid)
        self.peak_mib = max(self.peak_mib, found)
        return found

    def until(self, condition: Callable[[], object]) -> None:
        def checked() -> object:
            self.service.hear()
            self.mib()
            return condition()

        self.service.until(checked, within_s=LIMIT_S)

    def quiet(self) -> None:
        """Until it has done nothing for two seconds, and the worker that is kept ready is there."""
        before, since = -1, time.monotonic()
        while time.monotonic() - since < 2.0:
            if (now := self.rounds()) != before:
                before, since = now, time.monotonic()
            self.service.hear()
            time.sleep(0.1)

    def rounds(self) -> int:
        return sum(pf["rounds"] for pf in self.service.status["pfs"])


@contextmanager
def _agent(folder: Path, notify: Path) -> Iterator[Measured]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(notify))
        systemd.settimeout(0)
        service = Service(folder, systemd, notify)
        yield Measured(service)
        assert service.stop() == 0


def measure(count: int) -> Found:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="vfagent-scale-") as name:
        alone = look_s(count, Path(name) / "look")
        files = FakeKernel(Path(name) / "agent")
        files.tree.policy(POLICY.format(count=VFS))
        pfs = _add_pfs(files, count, vfs=0, interface=False)
        began = time.monotonic()
        with _agent(files.tree.root, Path(name) / "notify") as agent:
            agent.until(lambda: "READY=1" in agent.service.logged and _settled(agent.service, count))
            converged = time.monotonic() - began
            agent.quiet()
            idle = agent.mib()
            agent.cpu_s()
            return Found(
                count, alone, converged, *_event(agent, files, pfs), _reload(agent, files), idle, agent.peak_mib
            )


def _settled(service: Service, count: int) -> bool:
    pfs = service.status["pfs"]
    return len(pfs) == count and all(pf["phase"] == "converged" and pf["vfs_actual"] == VFS for pf in pfs)


def _event(agent: Measured, files: FakeKernel, pfs: list[str]) -> tuple[float, int]:
    """One VF's driver is said to have changed."""
    before = agent.rounds()
    send(message(f"/devices/pci0000:00/{files.tree.vfs(pfs[-1])[0]}", action="bind"))
    agent.until(lambda: agent.rounds() > before)
    agent.quiet()
    return agent.cpu_s(), agent.rounds() - before


def _reload(agent: Measured, files: FakeKernel) -> float:
    """With a rule more, for cards that are not there: each PF is looked at again."""
    before = agent.rounds()
    files.tree.policy((POLICY + MORE).format(count=VFS))
    agent.service.signal(signal.SIGHUP)
    agent.until(lambda: agent.rounds() > before)
    agent.quiet()
    return agent.cpu_s()


def table(results: list[Found]) -> Iterator[str]:
    yield "  VFs    full look   of a VF   converged   an event (looks)   reload   memory idle, peak"
    for one in results:
        vfs = one.pfs * VFS
        yield (
            f"{vfs:5}   {one.look_s:8.2f} s  {1e6 * one.look_s / vfs:5.0f} µs   {one.converged_s:7.1f} s"
            f"   {1e3 * one.event_s:8.0f} ms ({one.event_looks})   {one.reload_s:5.2f} s"
            f"   {one.idle_mib:6.1f}, {one.peak_mib:.1f} MiB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m tests.bench.scale", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="PFs")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = list[Found]()
    with private_kernel():
        for count in options.sizes:
            results.append(measure(count))
            print(f"  {results[-1]}", file=sys.stderr, flush=True)
    print(json.dumps([asdict(one) for one in results]) if options.json else "\n".join(table(results)))


if __name__ == "__main__":
    main()
