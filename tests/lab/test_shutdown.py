# SPDX-License-Identifier: Apache-2.0
"""Shutdown of a host whose VFs are in use."""

import json
import re
import time
from collections.abc import Callable

import pytest

from tests.lab.facts import SYSFS, vfs
from tests.lab.halt import HALT
from tests.lab.install import vfagent_tree
from tests.lab.nic import Igb
from tests.lab.payload import Entry
from tests.lab.test_faults import PF, is_as_wanted
from tests.lab.test_faults import POLICY as ONE_CARD
from tests.lab.test_one_card import hold, reload_with
from tests.lab.vf_user import VF_USER
from tests.lab.vm import VM
from tests.lab.warm import WarmVM

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
    guests = json.loads(vm.run("vfagent guest list --json", check=False).stdout or '{"guests": []}')["guests"]
    return sum(entry["phase"] == "running" for entry in guests)


def _try_to_disturb(vm: VM) -> None:
    """Requests that must not affect the VF: release, other VF counts, restarts, a kill, apply."""
    assert vm.run(f"vfagent release {PF}", check=False).returncode == 5
    for count in (2, 7, 0):
        reload_with(vm, ONE_CARD.replace("vfs = 3", f"vfs = {count}"))
        vm.wait_for("vfagent status | grep -q 'deferred, rule storage'", 30)
        vm.run("systemctl restart vfagent.service; systemctl kill --signal=KILL vfagent.service")
        vm.wait_for("systemctl is-active --quiet vfagent.service && vfagent status | grep -q deferred", 60)
    vm.run("systemctl stop vfagent.service")
    assert vm.run("vfagent apply", check=False, timeout=120).returncode == 5
    vm.run("systemctl start vfagent.service", timeout=120)


def test_a_vf_in_use_is_kept_and_the_host_shuts_down_in_time(warm: Callable[..., WarmVM]) -> None:
    vm = warm([Igb("igb0")], vfagent_tree(ONE_CARD, {"/usr/lib/vf_user.py": Entry(VF_USER)}))
    vm.run("systemctl start vfagent.service", timeout=120)
    vm.wait_for(lambda: is_as_wanted(vm), 60)
    before = vfs(vm, PF)
    hold(vm, before[1])
    user = "systemctl show -P MainPID vf-user.service"
    pid = vm.run(user).stdout
    _try_to_disturb(vm)
    assert vfs(vm, PF) == before
    assert vm.run(f"{user}; cat {SYSFS}/{before[1].address}/enable").stdout == f"{pid}1\n"
    began = time.monotonic()
    vm.shutdown(timeout=120)
    assert time.monotonic() - began < 60


@pytest.mark.long
def test_twenty_guests_stop_in_parallel_when_the_host_shuts_down(boot: Callable[..., VM]) -> None:
    cards = [Igb(f"igb{number}") for number in range(CARDS)]
    vm = boot(cards, vfagent_tree(POLICY, {"/var/log/journal/.keep": b"", "/srv/halt": HALT}), hypervisor=True)
    vm.wait_for(lambda: _running(vm) == GUESTS, 700)
    vm.reboot(timeout=300)
    logged = vm.run("journalctl -b -1 -o short-monotonic --no-pager -u 'vfagent-guest-*' _PID=1", timeout=120).stdout
    begun = _times(logged, "Stopping")
    ended = _times(logged, "Stopped")
    assert (len(begun), len(ended)) == (GUESTS, GUESTS)
    # Sequentially they would take 200 s.
    assert max(ended) - min(begun) < 5 * DEADLINE_S
    assert max(begun) < min(ended), "all are asked before the first has ended"


def _times(logged: str, word: str) -> list[float]:
    lines = (re.match(rf"\[ *([0-9.]+)\] .*: {word} vfagent-guest-node", line) for line in logged.splitlines())
    return [float(match[1]) for match in lines if match]
