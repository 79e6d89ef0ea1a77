# SPDX-License-Identifier: Apache-2.0
"""A host with many guests goes down."""

import json
import re
from collections.abc import Callable

import pytest

from tests.lab.halt import HALT
from tests.lab.install import vfagent_tree
from tests.lab.nic import Igb
from tests.lab.vm import VM

CARDS, VFS, DEADLINE_S = 3, 7, 10
GUESTS = 20  # of the 21 VFs
POLICY = "".join(
    f"""
[[pf]]
name = "card{number}"
match = {{ pci = "0000:0{number}:00.0" }}
vfs = {VFS}

[[pf.vf]]
index = "*"
driver = "vfio-pci"

[[guest]]
name = "node{number}-{{index}}"
each = "card{number}:{"0-6" if number < CARDS else "0-5"}"
memory = "32M"

[guest.kernel]
image = "/srv/halt"

[guest.unit]
TimeoutStopSec = "{DEADLINE_S}s"
"""
    for number in range(1, CARDS + 1)
)


def _running(vm: VM) -> int:
    guests = json.loads(vm.run("vfagent guest list --json", check=False).stdout or "[]")
    return sum(one["phase"] == "running" for one in guests)


@pytest.mark.long
def test_twenty_guests_stop_side_by_side_when_the_host_goes_down(boot: Callable[..., VM]) -> None:
    cards = [Igb(f"igb{number}") for number in range(CARDS)]
    vm = boot(cards, vfagent_tree(POLICY, {"/var/log/journal/.keep": b"", "/srv/halt": HALT}), hypervisor=True)
    vm.wait_for(lambda: _running(vm) == GUESTS, 700)
    vm.reboot(timeout=300)
    told = vm.run("journalctl -b -1 -o short-monotonic --no-pager -u 'vfagent-guest-*' _PID=1", timeout=120).stdout
    begun = _times(told, "Stopping")
    ended = _times(told, "Stopped")
    assert (len(begun), len(ended)) == (GUESTS, GUESTS)
    # One after the other they take 200 s.
    assert max(ended) - min(begun) < 5 * DEADLINE_S
    assert max(begun) < min(ended), "each is asked before the first has gone"


def _times(told: str, word: str) -> list[float]:
    lines = (re.match(rf"\[ *([0-9.]+)\] .*: {word} vfagent-guest-node", line) for line in told.splitlines())
    return [float(found[1]) for found in lines if found]
