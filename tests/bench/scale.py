# SPDX-License-Identifier: Apache-2.0
"""How cost grows with the host: `python3 -m tests.bench.scale`, as root; up to 64 PFs with 128 VFs each.

The kernel is a fake one: files in memory, and netlink messages with the PFs' VF attributes, as from a real kernel.
An observation is measured in this process; the rest with the agent, its workers and its sockets.
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
from vfagent.kernel.links import link_facts, link_in
from vfagent.kernel.offline_tree import SysfsRtnl
from vfagent.kernel.protocols import Host, LinkFacts
from vfagent.reconcile.observe import pf_addresses
from vfagent.reconcile.rounds import Task, observe_and_plan
from vfagent.store.identity import read_identity
from vfagent.store.policy_files import load
from vfagent.store.state import State

SIZES, VFS, LIMIT_S = (1, 4, 16, 64), 128, 600
POLICY = (
    '[[pf]]\nname = "all"\nmatch = {{ driver = "igb" }}\nvfs = {count}\n[[pf.vf]]\nindex = "*"\ndriver = "vfio-pci"\n'
)
VLAN = "vlan = 10\n"  # where PFs have a netdev
MORE = '[[pf]]\nname = "none"\nmatch = {{ driver = "ice" }}\nvfs = 1\n'


@dataclass(frozen=True)
class Cost:
    """Seconds of CPU time, except `converged_s`, which is elapsed time. Memory of the agent and all its workers."""

    pfs: int
    observe_s: float
    converged_s: float
    event_s: float
    event_rounds: int
    reload_s: float
    idle_mib: float
    peak_mib: float


class RecordedRtnl(SysfsRtnl):
    """PFs that are up, with VFs that are configured as the policy says."""

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


def observe_s(count: int, folder: Path) -> float:
    """An observation of every PF of a converged host: the fastest of three."""
    files = FakeKernel(folder)
    files.tree.policy((POLICY + VLAN).format(count=VFS))
    _add_pfs(files, count, vfs=VFS, interface=True)
    host = replace(files.host, rtnl=RecordedRtnl(files.host))
    policy, identity, state = load(folder), read_identity(folder), State(folder)

    def all_pfs() -> float:
        began = time.process_time()
        for address in pf_addresses(host):
            task = Task(address, policy, identity)
            assert observe_and_plan(task, host, state, task.driver_state).plan.settled
        return time.process_time() - began

    return min(all_pfs() for _ in range(3))


# With the agent


class Measured:
    """A running agent, with the CPU time and memory of it and its workers."""

    def __init__(self, service: Service) -> None:
        self.service, self.pid = service, service.process.pid
        self.peak_mib = self._before = 0.0

    def cpu_s(self) -> float:
        """Since the last call. Workers count once they have ended."""
        now = cpu_s(self.pid)
        since, self._before = now - self._before, now
        return since

    def mib(self) -> float:
        mib = pss_mib(self.pid)
        self.peak_mib = max(self.peak_mib, mib)
        return mib

    def until(self, condition: Callable[[], object]) -> None:
        def checked() -> object:
            self.service.hear()
            self.mib()
            return condition()

        self.service.until(checked, within_s=LIMIT_S)

    def quiet(self) -> None:
        """Waits until no round has started for two seconds."""
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


def measure(count: int) -> Cost:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="vfagent-scale-") as name:
        observation = observe_s(count, Path(name) / "observe")
        files = FakeKernel(Path(name) / "agent")
        files.tree.policy(POLICY.format(count=VFS))
        pfs = _add_pfs(files, count, vfs=0, interface=False)
        began = time.monotonic()
        with _agent(files.tree.root, Path(name) / "notify") as agent:
            agent.until(lambda: "READY=1" in agent.service.notifications and _settled(agent.service, count))
            converged = time.monotonic() - began
            agent.quiet()
            idle = agent.mib()
            agent.cpu_s()
            return Cost(
                count, observation, converged, *_event(agent, files, pfs), _reload(agent, files), idle, agent.peak_mib
            )


def _settled(service: Service, count: int) -> bool:
    pfs = service.status["pfs"]
    return len(pfs) == count and all(pf["phase"] == "converged" and pf["vfs_actual"] == VFS for pf in pfs)


def _event(agent: Measured, files: FakeKernel, pfs: list[str]) -> tuple[float, int]:
    """A uevent of one VF: its driver has changed."""
    before = agent.rounds()
    send(message(f"/devices/pci0000:00/{files.tree.vfs(pfs[-1])[0]}", action="bind"))
    agent.until(lambda: agent.rounds() > before)
    agent.quiet()
    return agent.cpu_s(), agent.rounds() - before


def _reload(agent: Measured, files: FakeKernel) -> float:
    """With another rule, for cards that are absent: each PF is reconciled again."""
    before = agent.rounds()
    files.tree.policy((POLICY + MORE).format(count=VFS))
    agent.service.signal(signal.SIGHUP)
    agent.until(lambda: agent.rounds() > before)
    agent.quiet()
    return agent.cpu_s()


def table(results: list[Cost]) -> Iterator[str]:
    yield "  VFs    observation   per VF   converged   event (rounds)   reload   memory idle, peak"
    for result in results:
        vfs = result.pfs * VFS
        yield (
            f"{vfs:5}   {result.observe_s:8.2f} s  {1e6 * result.observe_s / vfs:5.0f} µs   {result.converged_s:7.1f} s"
            f"   {1e3 * result.event_s:8.0f} ms ({result.event_rounds})   {result.reload_s:5.2f} s"
            f"   {result.idle_mib:6.1f}, {result.peak_mib:.1f} MiB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m tests.bench.scale", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="PFs")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = list[Cost]()
    with private_kernel():
        for count in options.sizes:
            results.append(measure(count))
            print(f"  {results[-1]}", file=sys.stderr, flush=True)
    print(json.dumps([asdict(result) for result in results]) if options.json else "\n".join(table(results)))


if __name__ == "__main__":
    main()
