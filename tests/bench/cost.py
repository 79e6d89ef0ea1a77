# SPDX-License-Identifier: Apache-2.0
"""The cost of the service: its start, its idle time and its memory, beside systemd-networkd and node_exporter.

`python3 -m tests.bench.cost`: one VM with one card whose 7 VFs are converged.
"""

import argparse
import json
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from tests.bench.contestants import COUNT, PF, VFAGENT, payload
from tests.lab.nic import Igb
from tests.lab.packages import packages_tree
from tests.lab.vm import VM
from tests.lab.warm import WarmVM

ROUNDS, MINUTES = 5, 10
EXPORTER = "/usr/bin/prometheus-node-exporter"
# The CPU time that Python and asyncio take to start.
_IMPORT = 'bash -c \'TIMEFORMAT="%U %S"; time python3 -c "import asyncio"\' 2>&1'
# The processes of a unit, their wakeups, and their memory: shared pages count in proportion.
_PIDS = "cat /sys/fs/cgroup/$(systemctl show -P ControlGroup {unit})/cgroup.procs"
_WAKEUPS = (
    "for pid in $({pids}); do cat /proc/$pid/task/*/status; done | awk '/^voluntary_ctxt/ {{n += $2}} END {{print n}}'"
)
_PSS = "for pid in $({pids}); do cat /proc/$pid/smaps_rollup; done | awk '/^Pss:/ {{n += $2}} END {{print n}}'"
_CPU = "systemctl show -P CPUUsageNSec {unit}"


@dataclass(frozen=True)
class Idle:
    """Per idle minute; memory at the end, and the cgroup's peak."""

    wakeups_per_minute: float
    cpu_ms_per_minute: float
    pss_mib: float
    cgroup_mib: float
    peak_mib: float


def start_cost(vm: VM) -> tuple[float, float]:
    """CPU seconds from the start to READY on a converged host, and those of `import asyncio`."""
    vm.run("systemctl restart vfagent.service", timeout=120)
    service = int(vm.run(_CPU.format(unit="vfagent.service")).stdout) / 1e9
    vm.run("sleep 5")
    asyncio = sum(map(float, vm.run(_IMPORT).stdout.split()))
    return service, asyncio


def idle_cost(vm: VM, units: dict[str, str], minutes: float) -> dict[str, Idle]:
    before = {name: _counted(vm, unit) for name, unit in units.items()}
    vm.run(f"sleep {60 * minutes}", timeout=60 * minutes + 60)
    after = {name: _counted(vm, unit) for name, unit in units.items()}
    return {
        name: Idle(
            wakeups_per_minute=(after[name][0] - before[name][0]) / minutes,
            cpu_ms_per_minute=(after[name][1] - before[name][1]) / 1e6 / minutes,
            pss_mib=int(vm.run(_of(_PSS, unit)).stdout) / 1024,
            cgroup_mib=_memory_mib(vm, unit, "MemoryCurrent"),
            peak_mib=_memory_mib(vm, unit, "MemoryPeak"),
        )
        for name, unit in units.items()
    }


def _of(command: str, unit: str) -> str:
    return command.format(pids=_PIDS.format(unit=unit))


def _counted(vm: VM, unit: str) -> tuple[int, int]:
    return int(vm.run(_of(_WAKEUPS, unit)).stdout), int(vm.run(_CPU.format(unit=unit)).stdout)


def _memory_mib(vm: VM, unit: str, which: str) -> float:
    return int(vm.run(f"systemctl show -P {which} {unit}").stdout) / (1 << 20)


def measure(minutes: float) -> tuple[list[tuple[float, float]], dict[str, Idle]]:
    units = {VFAGENT: "vfagent.service", "systemd-networkd (C)": "systemd-networkd.service"}
    units["node_exporter (Go)"] = "node-exporter.service"
    with WarmVM([], payload() | packages_tree("prometheus-node-exporter")) as vm:
        vm.run("modprobe -a vfio-pci; systemctl start vfagent.service systemd-networkd.service")
        vm.run(f"systemd-run --quiet --unit=node-exporter {EXPORTER} --web.listen-address=127.0.0.1:9100")
        vm.hotplug(Igb("igb0"))
        vm.wait_for(f"test $(ls -d /sys/bus/pci/drivers/vfio-pci/0000:01:* | wc -l) = {COUNT}", 60)
        vm.wait_for(
            f'vfagent status --json | grep -q \'"phase": *"converged"\' && test -e /sys/bus/pci/devices/{PF}', 60
        )
        starts = [start_cost(vm) for _ in range(ROUNDS + 1)][1:]
        vm.run("sleep 20")
        return starts, idle_cost(vm, units, minutes)


def report(starts: list[tuple[float, float]], idle: dict[str, Idle], minutes: float) -> Iterator[str]:
    ratios = [service / asyncio for service, asyncio in starts]
    yield "From start to READY on a converged host, as a ratio to the CPU time of `python3 -c 'import asyncio'`:"
    yield f"min {min(ratios):.2f}  median {statistics.median(ratios):.2f}  max {max(ratios):.2f}"
    yield f"In {minutes:g} idle minutes:"
    yield f"{'':22} wakeups/min   CPU ms/min   resident MiB (Pss)   cgroup MiB   peak MiB"
    for name, usage in idle.items():
        yield (
            f"{name:22} {usage.wakeups_per_minute:11.1f}   {usage.cpu_ms_per_minute:10.1f}   {usage.pss_mib:18.1f}"
            f"   {usage.cgroup_mib:10.1f}   {usage.peak_mib:8.1f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m tests.bench.cost", description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    starts, idle = measure(options.minutes)
    if options.json:
        print(json.dumps({"starts": starts, "idle": {name: asdict(usage) for name, usage in idle.items()}}, indent=2))
    else:
        print("\n".join(report(starts, idle, options.minutes)))


if __name__ == "__main__":
    main()
