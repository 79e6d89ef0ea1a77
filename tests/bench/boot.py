# SPDX-License-Identifier: Apache-2.0
"""How much longer a host with a card boots when vfagent makes its VFs: the same VM, with and without, in turn.

What systemd-analyze says of user space, which begins when the kernel is done. Seconds are of software emulation.
"""

import argparse
import json
import re
import statistics
import sys

from tests.bench.contestants import POLICY
from tests.lab.install import vfagent_tree
from tests.lab.nic import Igb
from tests.lab.vm import VM

WITH, WITHOUT = "with vfagent", "without"
_BEGAN, _READY = "ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic"


def measure(vm: VM, which: str) -> dict[str, object]:
    """One boot: user space's time, and the service's from its start to READY."""
    vm.run(f"systemctl {'enable' if which == WITH else 'disable'} vfagent.service && sync")
    vm.power_cycle(timeout=300)
    vm.wait_boot(timeout=300)
    said = vm.run("systemd-analyze time").stdout
    found = re.search(r"([\d.]+)s \(userspace\)|(\d+)min ([\d.]+)s \(userspace\)", said)
    if found is None:
        raise ValueError(said)
    seconds = float(found[1]) if found[1] else 60 * int(found[2]) + float(found[3])
    shown = vm.run(f"systemctl show -p {_BEGAN},{_READY} vfagent.service").stdout
    at = {name: int(value) / 1e6 for name, value in (line.split("=") for line in shown.splitlines())}
    took = round(at[_READY] - at[_BEGAN], 2) if which == WITH else None
    return {"which": which, "userspace_s": seconds, "service_s": took}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m tests.bench.boot", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    results: list[dict[str, object]] = []
    with VM([Igb("igb0")], vfagent_tree(POLICY)) as vm:
        vm.wait_boot(timeout=300)
        for _ in range(options.rounds):
            for which in (WITHOUT, WITH):
                results.append(measure(vm, which))
                print(f"  {json.dumps(results[-1])}", file=sys.stderr, flush=True)
    by = {
        which: [float(str(one["userspace_s"])) for one in results if one["which"] == which] for which in (WITHOUT, WITH)
    }
    ratios = [mine / plain for mine, plain in zip(by[WITH], by[WITHOUT], strict=True)]
    print("User space's start with vfagent and 7 VFs to make, as a ratio to the same without:")
    print(f"min {min(ratios):.2f}  median {statistics.median(ratios):.2f}  max {max(ratios):.2f}")
    print(f"medians: {statistics.median(by[WITH]):.1f} s, {statistics.median(by[WITHOUT]):.1f} s")


if __name__ == "__main__":
    main()
