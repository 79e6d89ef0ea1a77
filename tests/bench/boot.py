# SPDX-License-Identifier: Apache-2.0
"""How much longer a host with a card boots when vfagent creates its VFs: the same VM, with and without, in turn.

Measures user space as systemd-analyze does, without the kernel's part. Seconds are those of software emulation.
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
    """One boot: the time of user space, and of the service from its start to READY."""
    vm.run(f"systemctl {'enable' if which == WITH else 'disable'} vfagent.service && sync")
    vm.power_cycle(timeout=300)
    vm.wait_boot(timeout=300)
    output = vm.run("systemd-analyze time").stdout
    match = re.search(r"([\d.]+)s \(userspace\)|(\d+)min ([\d.]+)s \(userspace\)", output)
    if match is None:
        raise ValueError(output)
    seconds = float(match[1]) if match[1] else 60 * int(match[2]) + float(match[3])
    properties = vm.run(f"systemctl show -p {_BEGAN},{_READY} vfagent.service").stdout
    at = {name: int(value) / 1e6 for name, value in (line.split("=") for line in properties.splitlines())}
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
        which: [float(str(result["userspace_s"])) for result in results if result["which"] == which]
        for which in (WITHOUT, WITH)
    }
    ratios = [measured / plain for measured, plain in zip(by[WITH], by[WITHOUT], strict=True)]
    print("Boot of user space with vfagent and 7 VFs to create, as a ratio to the boot without vfagent:")
    print(f"min {min(ratios):.2f}  median {statistics.median(ratios):.2f}  max {max(ratios):.2f}")
    print(f"medians: {statistics.median(by[WITH]):.1f} s, {statistics.median(by[WITHOUT]):.1f} s")


if __name__ == "__main__":
    main()
