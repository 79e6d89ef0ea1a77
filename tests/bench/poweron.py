# SPDX-License-Identifier: Apache-2.0
"""The time from power-on to ready VFs and to the first guest: vfagent beside other ways, one boot each, interleaved.

`python3 -m tests.bench.poweron`: seconds since the kernel's start, as ratios to the straight line of the same round.
The guest is a kernel of a few bytes that prints a line on its serial port. For ways that start no guests, the recorder
starts a bare QEMU as soon as the VF is ready, which is faster than any start of their own could be.
One way starts the guest as vfagent does: its unit is a file, which systemd starts when udev has the VF's devices.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from tests.bench.contestants import CANNOT, COUNT, DRIVERCTL, FLOOR, LINK, PF, POLICY, SEED, VFAGENT, VFS, payload
from tests.bench.contestants import HERE as PLACE
from tests.lab.guest_facts import wait_logged
from tests.lab.halt import MARK, SAY
from tests.lab.nic import Igb
from tests.lab.payload import Content, Entry
from tests.lab.vm import VM

LIMIT_S = 150
LINK_UNIT = "systemd.link, the guest by a unit"
_GUEST = """
[[guest]]
name = "first"
vfs = ["bench:0"]
memory = "32M"

[guest.kernel]
image = "/srv/say"

[guest.unit]
TimeoutStopSec = "3s"
"""
_GUEST_UNIT, _VFAGENT_UNIT = "first-guest.service", "vfagent-guest-first.service"
_UNITS = "/usr/lib/systemd/system"
_RECORD = "/var/lib/bench/record"
_RECORDER = f"""
[Unit]
DefaultDependencies=no
After=systemd-remount-fs.service
Before=systemd-udev-trigger.service
[Service]
StandardOutput=truncate:{_RECORD}
EnvironmentFile=-/etc/bench/guest
ExecStart=/usr/bin/python3 /usr/lib/bench/recorder.py {COUNT} {LIMIT_S} {PF}
"""
_STRAIGHT = f"""
[Unit]
DefaultDependencies=no
[Service]
ExecStart=/usr/bin/python3 /usr/lib/bench/straight.py {COUNT} {PF}
"""
_FIRST = f"""
[Service]
ExecStart=/usr/bin/qemu-system-x86_64 -accel tcg -machine q35 -m 32M -nodefaults -display none -serial stdio \
    -kernel /srv/say -device vfio-pci,host={VFS[0]}
"""


def _wanted(unit: str, target: str) -> dict[str, Content]:
    return {f"/etc/systemd/system/{target}.target.wants/{unit}": Entry(target=f"{_UNITS}/{unit}")}


@dataclass(frozen=True, slots=True)
class Way:
    """The files that are added to the host before the boot, and the unit of its guest."""

    name: str
    files: Mapping[str, Content]
    guest: str = _GUEST_UNIT


def ways() -> tuple[Way, ...]:
    guest: dict[str, Content] = {"/etc/bench/guest": f"BENCH_GUEST={_GUEST_UNIT}\n".encode()}
    no_driver: dict[str, Content] = {"/etc/modprobe.d/bench.conf": b"blacklist igbvf\n"}
    by_ids: dict[str, Content] = {"/etc/modprobe.d/bench.conf": b"blacklist igbvf\noptions vfio-pci ids=8086:10ca\n"}
    link: dict[str, Content] = {
        f"/etc/systemd/network/10-bench.{kind}": (PLACE / f"pf.{kind}").read_bytes() for kind in ("link", "network")
    }
    overrides: dict[str, Content] = {f"/etc/driverctl.d/pci-{vf}": b"vfio-pci\n" for vf in VFS}
    return (
        Way(FLOOR, guest | _wanted("straight.service", "sysinit")),
        Way(VFAGENT, _wanted("vfagent.service", "multi-user"), _VFAGENT_UNIT),
        # udev would load igbvf, which binds VFs before the script does; the script then ends with EBUSY.
        Way(SEED, guest | no_driver | {"/etc/bench/seed": b""}),
        Way(LINK, guest | by_ids | link | _wanted("systemd-networkd.service", "multi-user")),
        Way(LINK_UNIT, by_ids | link | _wanted("systemd-networkd.service", "multi-user"), _VFAGENT_UNIT),
        Way(DRIVERCTL, guest | no_driver | overrides | {"/etc/bench/linkctl": b""}),
    )


def _by_unit(text: str) -> dict[str, Content]:
    """The guest's unit, as vfagent created it."""
    path = f"/etc/systemd/system/{_VFAGENT_UNIT}"
    return {path: text.encode(), f"/etc/systemd/system/multi-user.target.wants/{_VFAGENT_UNIT}": Entry(target=path)}


def host() -> dict[str, Entry]:
    files: dict[str, Content] = {
        "/srv/say": SAY,
        "/var/lib/bench/.keep": b"",
        f"{_UNITS}/recorder.service": _RECORDER.encode(),
        f"{_UNITS}/straight.service": _STRAIGHT.encode(),
        f"{_UNITS}/{_GUEST_UNIT}": _FIRST.encode(),
        **_wanted("recorder.service", "sysinit"),
    }
    return payload(POLICY + _GUEST, files)


@dataclass(slots=True)
class Results:
    """Seconds since the kernel's start, by way; None if it did not finish."""

    ready: dict[str, list[float | None]] = field(default_factory=dict)
    guest: dict[str, list[float | None]] = field(default_factory=dict)


def measure(vm: VM, way: Way) -> tuple[float | None, float | None]:
    """One boot: when the VFs were ready, and when the guest printed its line. Leaves the guest running."""
    vm.put_tree(way.files)
    vm.run("rm -f /var/lib/bench/record; sync")
    vm.power_cycle(timeout=300)
    written = f"timeout {LIMIT_S + 30} sh -c 'until grep -q all_s {_RECORD}; do sleep 1; done'"
    vm.run(written, timeout=LIMIT_S + 60, check=False)
    record = json.loads((vm.get(_RECORD).decode().splitlines() or ['{"all": false}'])[-1])
    ready = record["ready"] if record["all"] else None
    return ready, _guest_started(vm, way) if ready else None


def clean(vm: VM, way: Way) -> None:
    vm.run(f"systemctl stop {way.guest}; rm -f {' '.join(way.files)}", timeout=60, check=False)


def _guest_started(vm: VM, way: Way) -> float:
    wait_logged(vm, way.guest, MARK, timeout=LIMIT_S)
    line = vm.run(f"journalctl -b -q -o json -u {way.guest} -g '{MARK}'").stdout.splitlines()[0]
    return int(json.loads(line)["__MONOTONIC_TIMESTAMP"]) / 1e6


def run(rounds: int) -> Results:
    results, unit = Results(), ""
    with VM([Igb("igb0")], host(), hypervisor=True) as vm:
        vm.wait_boot()
        for number in range(rounds):
            for way in ways():
                if way.name == LINK_UNIT:
                    way = replace(way, files={**way.files, **_by_unit(unit)})
                ready, guest_s = measure(vm, way)
                if way.name == VFAGENT:
                    # The unit as vfagent creates it after udev is done: ordered after its VF's device unit.
                    vm.run("udevadm settle; vfagent guest stop first; vfagent guest start first", timeout=60)
                    unit = vm.run(f"systemctl cat {_VFAGENT_UNIT}").stdout
                clean(vm, way)
                print(f"  round {number} {way.name}: VFs {ready} s, guest {guest_s} s", file=sys.stderr, flush=True)
                results.ready.setdefault(way.name, []).append(ready)
                results.guest.setdefault(way.name, []).append(guest_s)
    return results


def table(seconds: Mapping[str, list[float | None]]) -> Iterator[str]:
    yield f"{'way':33}  {'min':>6}  {'median':>6}  {'max':>6}   seconds (median)"
    for name, values in seconds.items():
        pairs = [(value, floor) for value, floor in zip(values, seconds[FLOOR], strict=True) if value and floor]
        ratios = [value / floor for value, floor in pairs]
        failed = f", failed in {len(values) - len(pairs)} of {len(values)} boots" if len(pairs) < len(values) else ""
        if ratios:
            low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
            took = statistics.median(value for value, _ in pairs)
            yield f"{name:33}  {low:6.2f}  {middle:6.2f}  {high:6.2f}   {took:.1f}{failed}"
        else:
            yield f"{name:33}  failed in all {len(values)} boots"


def report(results: Results) -> Iterator[str]:
    yield f"From power-on to {COUNT} VFs with MAC and VLAN on vfio-pci and the PF up, as ratios:"
    yield from table(results.ready)
    yield "From power-on to the first guest's first line, as ratios:"
    yield from table(results.guest)
    yield from (f"{name:33}  {why}" for name, why in CANNOT.items())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m tests.bench.poweron", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = run(options.rounds)
    seconds = {"ready_s": results.ready, "guest_s": results.guest}
    print(json.dumps(seconds, indent=2) if options.json else "\n".join(report(results)))


if __name__ == "__main__":
    main()
