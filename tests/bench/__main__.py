# SPDX-License-Identifier: Apache-2.0
"""How long from a PF's udev event to its 7 ready VFs: vfagent beside other ways, interleaved in one VM.

Ratios to the straight-line program of the same run. Absolute seconds are of software emulation.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.install import vfagent_tree
from tests.lab.nic import Igb
from tests.lab.payload import Content, Entry
from tests.lab.vm import VM
from tests.lab.warm import WarmVM

HERE = Path(__file__).parent / "guest"
PF, COUNT, LIMIT_S = "0000:01:00.0", 7, 60
POLICY = f"""
[[pf]]
name = "bench"
match = {{ driver = "igb" }}
vfs = {COUNT}

[[pf.vf]]
index = "*"
driver = "vfio-pci"
mac = "52:54:00:bb:00:{{index:02x}}"
vlan = 10
"""
SEED_RULE = f'ACTION=="bind", SUBSYSTEM=="pci", KERNEL=="{PF}", TAG+="systemd", ENV{{SYSTEMD_WANTS}}+="seed.service"\n'
# The rule is there for everybody, the script only for its own turn.
SEED_UNIT = (
    f"[Unit]\nConditionPathExists=/run/seed\n[Service]\nType=oneshot\nExecStart=/usr/lib/bench/seed.sh {PF} {COUNT}\n"
)


@dataclass(frozen=True, slots=True)
class Contestant:
    """`start` makes it wait for the PF, `stop` ends it; both in the guest's shell."""

    name: str
    start: str
    stop: str


CONTESTANTS = (
    Contestant(
        "straight line",
        f"systemd-run --quiet --unit=straight python3 /usr/lib/bench/straight.py {PF} {COUNT};"
        " until journalctl -q -u straight -o cat --since -20s | grep -q waiting; do sleep 0.2; done",
        "systemctl stop straight 2>/dev/null; systemctl reset-failed straight 2>/dev/null",
    ),
    Contestant("vfagent", "systemctl start vfagent.service", "systemctl stop vfagent.service"),
    Contestant("the seed's script", "touch /run/seed", "rm /run/seed; systemctl stop seed.service"),
)


@dataclass(slots=True)
class Results:
    seconds: dict[str, list[float]] = field(default_factory=dict)
    detail: list[dict[str, object]] = field(default_factory=list)


def payload() -> dict[str, Entry]:
    programs = (path for path in HERE.iterdir() if path.is_file())
    extra: dict[str, Content] = {f"/usr/lib/bench/{path.name}": Entry(path.read_bytes(), 0o755) for path in programs}
    extra["/etc/udev/rules.d/90-seed.rules"] = SEED_RULE.encode()
    extra["/usr/lib/systemd/system/seed.service"] = SEED_UNIT.encode()
    return vfagent_tree(POLICY, extra, enabled=False)


@contextmanager
def _waiting(vm: VM, one: Contestant) -> Iterator[None]:
    vm.run(one.start, timeout=120)
    yield
    vm.run(one.stop, check=False)


def measure(vm: VM, one: Contestant) -> dict[str, object]:
    """One hotplug under this contestant; the card is gone again afterwards.

    Meanwhile nothing is asked of the guest: what polls there has a processor for itself.
    """
    card = Igb("igb0")
    with _waiting(vm, one), ThreadPoolExecutor(1) as pool:
        record = f"python3 /usr/lib/bench/recorder.py {PF} {COUNT} {LIMIT_S} | tee /run/record"
        recording = pool.submit(vm.run, record, timeout=LIMIT_S + 60)
        vm.run("until grep -q recording /run/record 2>/dev/null; do sleep 0.5; done; sleep 2", timeout=60)
        vm.plug(card)
        found = json.loads(recording.result().stdout.splitlines()[-1])
        vm.run("rm -f /run/record; sleep 3")
    vm.run(f"echo 0 >/sys/bus/pci/devices/{PF}/sriov_numvfs", check=False)
    vm.unplug(card)
    vm.wait_for(f"test ! -e /sys/bus/pci/devices/{PF}")
    assert isinstance(found, dict)
    return found


def run(rounds: int) -> Results:
    results = Results()
    with WarmVM([], payload()) as vm:
        vm.run("modprobe -a vfio-pci igb igbvf; systemctl restart systemd-udevd; udevadm settle")
        for number in range(rounds + 1):
            for one in CONTESTANTS:
                found = measure(vm, one)
                print(f"  round {number} {one.name}: {json.dumps(found)}", file=sys.stderr, flush=True)
                if number:  # the first of each only warms caches
                    results.seconds.setdefault(one.name, []).append(float(str(found["from_udev_s"])))
                    results.detail.append({"contestant": one.name, **found})
    return results


def table(results: Results) -> list[str]:
    base = results.seconds[CONTESTANTS[0].name]
    rows = [f"{'contestant':20}  {'min':>6}  {'median':>6}  {'max':>6}   seconds (median)"]
    for name, seconds in results.seconds.items():
        ratios = [mine / floor for mine, floor in zip(seconds, base, strict=True)]
        low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
        rows.append(f"{name:20}  {low:6.2f}  {middle:6.2f}  {high:6.2f}   {statistics.median(seconds):.2f}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = run(options.rounds)
    if options.json:
        print(json.dumps(results.detail, indent=2))
    else:
        print("PF's udev event to 7 VFs with MAC and VLAN on vfio-pci and the PF up, as ratios to the straight line:")
        print("\n".join(table(results)))


if __name__ == "__main__":
    main()
