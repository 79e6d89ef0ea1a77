# SPDX-License-Identifier: Apache-2.0
"""The time from a PF's udev event to ready VFs, of vfagent and of other programs, interleaved in one VM.

Ratios to the straight-line program of the same run. Absolute seconds are those of software emulation.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.bench import shares
from tests.bench.contestants import CANNOT, COUNT, FLOOR, PF, SEED, VFAGENT, Contestant, contestants, payload, peers
from tests.lab.machine import PORTS
from tests.lab.nic import Igb
from tests.lab.vm import VM
from tests.lab.warm import WarmVM

LIMIT_S, SIZES = 90, (1, 2, 4, 8)
_NO_DRIVER = "/run/modprobe.d/no-igb.conf"


@dataclass(slots=True)
class Results:
    """Seconds by contestant; with several PFs, by their number too. `detail` has the record of each run.

    `single` starts at udev's event for the PF's netdev, `kernel` at the kernel's event, which udev handles first.
    """

    spent: list[shares.Shares] = field(default_factory=list)
    single: dict[str, list[float]] = field(default_factory=dict)
    kernel: dict[str, list[float]] = field(default_factory=dict)
    multiple: dict[int, dict[str, list[float]]] = field(default_factory=dict)
    detail: list[dict[str, object]] = field(default_factory=list)

    def keep(self, into: dict[str, list[float]], contestant: Contestant, pfs: int, record: dict[str, object]) -> None:
        into.setdefault(contestant.name, []).append(float(str(record["all_s"])))
        self.detail.append({"contestant": contestant.name, "pfs": pfs, **record})


@contextmanager
def _started(vm: VM, contestant: Contestant) -> Iterator[None]:
    vm.run(contestant.start, timeout=120)
    yield
    vm.run(contestant.stop, check=False, timeout=120)


@contextmanager
def _recorded(vm: VM, pfs: Sequence[str], record: dict[str, object]) -> Iterator[None]:
    """Runs no other command in the VM meanwhile: programs that poll there have a processor to themselves."""
    with ThreadPoolExecutor(1) as pool:
        recorder = f"python3 /usr/lib/bench/recorder.py {COUNT} {LIMIT_S} {' '.join(pfs)} | tee /run/record"
        recording = pool.submit(vm.run, recorder, timeout=LIMIT_S + 60)
        vm.run("until grep -q recording /run/record 2>/dev/null; do sleep 0.5; done; sleep 2", timeout=60)
        yield
        record |= json.loads(recording.result().stdout.splitlines()[-1])
        vm.run("rm -f /run/record; sleep 3")


def measure(vm: VM, contestant: Contestant, results: Results) -> dict[str, object]:
    """One hotplug with this contestant. Removes the card afterwards."""
    card, record = Igb("igb0"), dict[str, object]()
    with _started(vm, contestant):
        with _recorded(vm, [PF], record):
            vm.plug(card)
        if contestant.name == VFAGENT:
            results.spent.append(shares.shares(vm, record))
    vm.run(f"echo 0 >/sys/bus/pci/devices/{PF}/sriov_numvfs", check=False)
    vm.unplug(card)
    vm.wait_for(f"test ! -e /sys/bus/pci/devices/{PF}")
    return record


def measure_many(vm: VM, contestant: Contestant, pfs: Sequence[str]) -> dict[str, object]:
    """Loads the driver of several cards with this contestant, and unloads it afterwards."""
    record = dict[str, object]()
    with _started(vm, contestant), _recorded(vm, pfs, record):
        vm.run("modprobe igb", timeout=120)
    for pf in pfs:
        vm.run(f"echo 0 >/sys/bus/pci/devices/{pf}/sriov_numvfs", check=False)
    vm.run("rmmod igb; udevadm settle", timeout=120)
    return record


def run(rounds: int, chosen: Sequence[Contestant], sizes: Sequence[int] = ()) -> Results:
    results = Results()
    with WarmVM([], payload()) as vm:
        vm.run("modprobe -a vfio-pci igb igbvf; systemctl restart systemd-udevd; udevadm settle")
        for number, contestant in _interleaved(rounds, chosen):
            record = measure(vm, contestant, results)
            _print(number, contestant, record)
            if number:
                results.keep(results.single, contestant, 1, record)
                results.kernel.setdefault(contestant.name, []).append(float(str(record["from_netdev_s"])))
        if sizes:
            vm.run(f"mkdir -p /run/modprobe.d; echo blacklist igb >{_NO_DRIVER}; rmmod igb")
        for count in sizes:
            _measure_size(vm, count, rounds, results)
    return results


def _measure_size(vm: VM, count: int, rounds: int, results: Results) -> None:
    while len(vm.cards) < count:
        vm.hotplug(Igb(f"many{len(vm.cards)}"))
    pfs = [f"0000:{number:02x}:00.0" for number in range(1, count + 1)]
    for number, contestant in _interleaved(
        rounds, [contestant for contestant in contestants(pfs) if contestant.name != SEED]
    ):
        record = measure_many(vm, contestant, pfs)
        _print(number, contestant, record)
        if number:
            results.keep(results.multiple.setdefault(count, {}), contestant, count, record)


def _interleaved(rounds: int, chosen: Sequence[Contestant]) -> Iterator[tuple[int, Contestant]]:
    """Round 0 only warms caches."""
    return ((number, contestant) for number in range(rounds + 1) for contestant in chosen)


def _print(number: int, contestant: Contestant, record: dict[str, object]) -> None:
    print(f"  round {number} {contestant.name}: {json.dumps(record)}", file=sys.stderr, flush=True)


def table(seconds: dict[str, list[float]]) -> Iterator[str]:
    base = seconds[FLOOR]
    yield f"{'contestant':20}  {'min':>6}  {'median':>6}  {'max':>6}   seconds (median)"
    for name, values in seconds.items():
        ratios = [value / floor for value, floor in zip(values, base, strict=True)]
        low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
        yield f"{name:20}  {low:6.2f}  {middle:6.2f}  {high:6.2f}   {statistics.median(values):.2f}"


def many_table(many: dict[int, dict[str, list[float]]]) -> Iterator[str]:
    """Medians as ratios to the straight line with the same number of PFs, and to the same contestant with one PF."""
    medians = {
        count: {name: statistics.median(values) for name, values in seconds.items()} for count, seconds in many.items()
    }
    first = medians[min(medians)]
    for count, seconds in medians.items():
        for name, median in seconds.items():
            ratios = f"{median / seconds[FLOOR]:5.2f}   {median / first[name]:5.2f}"
            yield f"{count} PFs  {name:14}  {ratios}   {median:.2f} s"


def report(results: Results) -> Iterator[str]:
    yield f"Hotplug: from the udev event to {COUNT} VFs with MAC and VLAN on vfio-pci and the PF up, as ratios:"
    yield from table(results.single)
    yield "The same from the kernel's event, because systemd.link acts before udev forwards the event:"
    yield from table(results.kernel)
    yield from (f"{name:20}  {why}" for name, why in CANNOT.items())
    yield from shares.report(results.spent[1:])
    if results.multiple:
        yield "Driver load with several cards: medians as ratios to the straight line, and to one PF:"
        yield from many_table(results.multiple)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pfs", type=int, nargs="*", default=SIZES, choices=range(1, len(PORTS) + 1))
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    chosen = (*contestants(), *(() if options.no_peers else peers()))
    results = run(options.rounds, chosen, options.pfs)
    print(json.dumps(results.detail, indent=2) if options.json else "\n".join(report(results)))


if __name__ == "__main__":
    main()
