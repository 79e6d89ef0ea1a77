# SPDX-License-Identifier: Apache-2.0
"""Random events on a host for some minutes: in the end it has converged, and the service has not grown.

VFAGENT_SOAK_MINUTES sets the duration, VFAGENT_SOAK_SEED repeats a run.
"""

import os
import random
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass

import pytest

from tests.lab.facts import SYSFS, journal, netdev, now, status, vfs
from tests.lab.guest_facts import phase
from tests.lab.halt import HALT
from tests.lab.install import vfagent_tree
from tests.lab.nic import Igb
from tests.lab.test_faults import LATE, PF, is_as_wanted, main_pid
from tests.lab.test_faults import POLICY as CARD
from tests.lab.vm import VM

pytestmark = pytest.mark.long
MINUTES = float(os.environ.get("VFAGENT_SOAK_MINUTES", "4"))
SEED = int(os.environ.get("VFAGENT_SOAK_SEED", str(random.randrange(1 << 32))))
POLICY = f"""{CARD}
[[guest]]
name = "node"
vfs = ["storage:0"]
memory = "32M"

[guest.kernel]
image = "/srv/halt"

[guest.unit]
TimeoutStopSec = "5s"
"""
INVALID = POLICY.replace("vlan = 10", "vlan = 5000")
SCRAPE = "import urllib.request as r; [r.urlopen('http://127.0.0.1:9862/metrics').read() for _ in range(20)]"
# Warnings that the actions cause.
EXPLAINED = r"drift: |policy: |storage|deferred|guest node|: its |no PF|reloading"
MOST_GROWTH = 1.05


@dataclass(frozen=True)
class Footprint:
    """Of the service at rest: resident memory of all its processes, and what it holds."""

    kib: int
    descriptors: int
    threads: int
    processes: int


def footprint(vm: VM) -> Footprint | None:
    """None if a worker ended meanwhile: the service was not at rest."""
    pids = "$(cat /sys/fs/cgroup$(systemctl show -P ControlGroup vfagent.service)/cgroup.procs)"
    of_each = "cd /proc/$p && echo $(grep ^Pss: smaps_rollup) $(ls fd | wc -l) $(ls task | wc -l)"
    result = vm.run(f"for p in {pids}; do {of_each} || exit; done", check=False)
    each = [line.split() for line in result.stdout.splitlines()]
    if result.returncode or any(len(words) != 5 for words in each):
        return None
    kib, descriptors, threads = (sum(int(words[at]) for words in each) for at in (1, 3, 4))
    return Footprint(kib, descriptors, threads, len(each))


class Soak:
    def __init__(self, vm: VM) -> None:
        self.vm, self.random, self.late = vm, random.Random(SEED), 0
        self.counts: dict[str, int] = {}

    def act(self) -> None:
        action = self.random.choice(
            (self.drift, self.unbind, self.reload, self.bad_policy, self.scrape, self.guest, self.card)
        )
        self.counts[action.__name__] = self.counts.get(action.__name__, 0) + 1
        action()

    def drift(self) -> None:
        index, vlan = self.random.randint(1, 2), self.random.randint(20, 90)
        self.vm.run(f"ip link set {netdev(self.vm, PF)} vf {index} vlan {vlan}")

    def unbind(self) -> None:
        address = vfs(self.vm, PF)[self.random.randint(1, 2)].address
        self.vm.run(f"echo {address} >{SYSFS}/{address}/driver/unbind", check=False)

    def reload(self) -> None:
        self.vm.put("/etc/vfagent/policy.toml", f"# {self.random.random()}\n{POLICY}".encode())
        self.vm.run("systemctl reload vfagent.service")

    def bad_policy(self) -> None:
        self.vm.put("/etc/vfagent/policy.toml", INVALID.encode())
        assert self.vm.run("systemctl reload vfagent.service", check=False).returncode != 0
        self.reload()

    def scrape(self) -> None:
        self.vm.run(f'python3 -c "{SCRAPE}"')

    def guest(self) -> None:
        self.vm.run("vfagent guest stop node", timeout=60)
        self.vm.run("vfagent guest start node", timeout=60)

    def card(self) -> None:
        self.late += 1
        card = Igb(f"late{self.late}")
        self.vm.hotplug(card)
        time.sleep(self.random.uniform(0, 6))
        self.vm.unplug(card)
        self.vm.wait_for(lambda: LATE not in status(self.vm), 60)

    def rest(self) -> Footprint:
        """After a reload, so that the standby worker always has the same age: the older it is, the fewer pages it
        shares with the service, 0.6 MiB after a few scrapes."""
        for _ in range(5):
            self.vm.wait_for(lambda: at_rest(self.vm), 90)
            self.vm.run("systemctl reload vfagent.service")
            self.vm.wait_for(lambda: at_rest(self.vm), 90)
            self.vm.run("sleep 4")  # until the standby worker has warmed up
            if measured := footprint(self.vm):
                return measured
        raise AssertionError("the service does not come to rest")


def at_rest(vm: VM) -> bool:
    return is_as_wanted(vm) and status(vm)[PF]["phase"] == "converged" and phase(vm, "node") == "running"


def test_after_random_events_the_host_converges_and_nothing_has_grown(boot: Callable[..., VM]) -> None:
    vm = boot([Igb("igb0")], vfagent_tree(POLICY, {"/srv/halt": HALT}), hypervisor=True)
    soak, samples = Soak(vm), list[Footprint]()
    vm.wait_for(lambda: at_rest(vm), 180)
    for warming in (soak.reload, soak.scrape, soak.card, soak.guest):
        warming()
    soak.rest()
    since, pid, end = now(vm), main_pid(vm), time.monotonic() + MINUTES * 60
    while time.monotonic() < end:
        for _ in range(3):
            soak.act()
        samples.append(soak.rest())
    print(f"seed {SEED}: {soak.counts}; {len(samples)} samples")
    print("\n".join(str(sample) for sample in samples))
    assert main_pid(vm) == pid
    _flat(samples)
    odd = [line for line in _warnings(vm, since) if not re.search(EXPLAINED, line)]
    assert odd == []
    assert "Traceback" not in journal(vm, since)


def _flat(samples: list[Footprint]) -> None:
    third = max(1, len(samples) // 3)
    names = ("KiB", "descriptors", "threads", "processes")
    for name, early, late in zip(names, _medians(samples[:third]), _medians(samples[-third:]), strict=True):
        print(f"{name}: {early:.0f}, then {late:.0f}")
        assert late <= early * (MOST_GROWTH if name == "KiB" else 1), name


def _medians(samples: list[Footprint]) -> list[float]:
    return [statistics.median(column) for column in zip(*(astuple(sample) for sample in samples), strict=True)]


def _warnings(vm: VM, since: str) -> list[str]:
    return vm.run(f"journalctl --no-pager -o cat -p warning -u vfagent.service --since '{since}'").stdout.splitlines()
