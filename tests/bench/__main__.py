# SPDX-License-Identifier: Apache-2.0
"""How long from PFs' udev events to ready VFs: vfagent beside other ways, interleaved in one VM.

Ratios to the straight-line program of the same run. Absolute seconds are of software emulation.
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
    """Seconds by contestant; of several PFs, by their number too. `detail` is the recorder's word on each run.

    `one` is from udev's event for the PF's netdev, `kernel` from the kernel's, which udev first works on.
    """

    spent: list[shares.Shares] = field(default_factory=list)
    one: dict[str, list[float]] = field(default_factory=dict)
    kernel: dict[str, list[float]] = field(default_factory=dict)
    many: dict[int, dict[str, list[float]]] = field(default_factory=dict)
    detail: list[dict[str, object]] = field(default_factory=list)

    def keep(self, into: dict[str, list[float]], one: Contestant, pfs: int, found: dict[str, object]) -> None:
        into.setdefault(one.name, []).append(float(str(found["all_s"])))
        self.detail.append({"contestant": one.name, "pfs": pfs, **found})


@contextmanager
def _waiting(vm: VM, one: Contestant) -> Iterator[None]:
    vm.run(one.start, timeout=120)
    yield
    vm.run(one.stop, check=False, timeout=120)


@contextmanager
def _recorded(vm: VM, pfs: Sequence[str], found: dict[str, object]) -> Iterator[None]:
    """Meanwhile nothing is asked of the guest: what polls there has a processor for itself."""
    with ThreadPoolExecutor(1) as pool:
        record = f"python3 /usr/lib/bench/recorder.py {COUNT} {LIMIT_S} {' '.join(pfs)} | tee /run/record"
        recording = pool.submit(vm.run, record, timeout=LIMIT_S + 60)
        vm.run("until grep -q recording /run/record 2>/dev/null; do sleep 0.5; done; sleep 2", timeout=60)
        yield
        found |= json.loads(recording.result().stdout.splitlines()[-1])
        vm.run("rm -f /run/record; sleep 3")


def measure(vm: VM, one: Contestant, results: Results) -> dict[str, object]:
    """One hotplug under this contestant; the card is gone again afterwards."""
    card, found = Igb("igb0"), dict[str, object]()
    with _waiting(vm, one):
        with _recorded(vm, [PF], found):
            vm.plug(card)
        if one.name == VFAGENT:
            results.spent.append(shares.shares(vm, found))
    vm.run(f"echo 0 >/sys/bus/pci/devices/{PF}/sriov_numvfs", check=False)
    vm.unplug(card)
    vm.wait_for(f"test ! -e /sys/bus/pci/devices/{PF}")
    return found


def measure_many(vm: VM, one: Contestant, pfs: Sequence[str]) -> dict[str, object]:
    """The driver of several cards is loaded under this contestant, and unloaded afterwards."""
    found = dict[str, object]()
    with _waiting(vm, one), _recorded(vm, pfs, found):
        vm.run("modprobe igb", timeout=120)
    for pf in pfs:
        vm.run(f"echo 0 >/sys/bus/pci/devices/{pf}/sriov_numvfs", check=False)
    vm.run("rmmod igb; udevadm settle", timeout=120)
    return found


def run(rounds: int, ways: Sequence[Contestant], sizes: Sequence[int] = ()) -> Results:
    results = Results()
    with WarmVM([], payload()) as vm:
        vm.run("modprobe -a vfio-pci igb igbvf; systemctl restart systemd-udevd; udevadm settle")
        for number, one in _turns(rounds, ways):
            found = measure(vm, one, results)
            _say(number, one, found)
            if number:
                results.keep(results.one, one, 1, found)
                results.kernel.setdefault(one.name, []).append(float(str(found["from_netdev_s"])))
        if sizes:
            vm.run(f"mkdir -p /run/modprobe.d; echo blacklist igb >{_NO_DRIVER}; rmmod igb")
        for count in sizes:
            _measure_size(vm, count, rounds, results)
    return results


def _measure_size(vm: VM, count: int, rounds: int, results: Results) -> None:
    while len(vm.cards) < count:
        vm.hotplug(Igb(f"many{len(vm.cards)}"))
    pfs = [f"0000:{number:02x}:00.0" for number in range(1, count + 1)]
    for number, one in _turns(rounds, [one for one in contestants(pfs) if one.name != SEED]):
        found = measure_many(vm, one, pfs)
        _say(number, one, found)
        if number:
            results.keep(results.many.setdefault(count, {}), one, count, found)


def _turns(rounds: int, all_of_them: Sequence[Contestant]) -> Iterator[tuple[int, Contestant]]:
    """Round 0 only warms caches."""
    return ((number, one) for number in range(rounds + 1) for one in all_of_them)


def _say(number: int, one: Contestant, found: dict[str, object]) -> None:
    print(f"  round {number} {one.name}: {json.dumps(found)}", file=sys.stderr, flush=True)


def table(seconds: dict[str, list[float]]) -> Iterator[str]:
    base = seconds[FLOOR]
    yield f"{'contestant':20}  {'min':>6}  {'median':>6}  {'max':>6}   seconds (median)"
    for name, mine in seconds.items():
        ratios = [one / floor for one, floor in zip(mine, base, strict=True)]
        low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
        yield f"{name:20}  {low:6.2f}  {middle:6.2f}  {high:6.2f}   {statistics.median(mine):.2f}"


def many_table(many: dict[int, dict[str, list[float]]]) -> Iterator[str]:
    """Medians, as ratios to the straight line with as many PFs, and to the same contestant with one."""
    middle = {count: {name: statistics.median(one) for name, one in found.items()} for count, found in many.items()}
    first = middle[min(middle)]
    for count, found in middle.items():
        for name, mine in found.items():
            yield f"{count} PFs  {name:14}  {mine / found[FLOOR]:5.2f}   {mine / first[name]:5.2f}   {mine:.2f} s"


def report(results: Results) -> Iterator[str]:
    yield f"A card comes: from its udev event to {COUNT} VFs with MAC and VLAN on vfio-pci and the PF up, as ratios:"
    yield from table(results.one)
    yield "The same from the kernel's event, since systemd.link acts before udev passes that on:"
    yield from table(results.kernel)
    yield from (f"{name:20}  {why}" for name, why in CANNOT.items())
    yield from shares.report(results.spent[1:])
    if results.many:
        yield "Cards whose driver is loaded: medians as ratios to the straight line, and to one PF of the same way:"
        yield from many_table(results.many)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pfs", type=int, nargs="*", default=SIZES, choices=range(1, len(PORTS) + 1))
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    ways = (*contestants(), *(() if options.no_peers else peers()))
    results = run(options.rounds, ways, options.pfs)
    print(json.dumps(results.detail, indent=2) if options.json else "\n".join(report(results)))


if __name__ == "__main__":
    main()
