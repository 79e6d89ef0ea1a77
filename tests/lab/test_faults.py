# SPDX-License-Identifier: Apache-2.0
"""Faults around the agent on a real host: full disks, lost events, restarts of daemons, clock jumps."""

import re
import time
from collections.abc import Callable, Iterator

import pytest

from tests.lab.facts import SYSFS, journal, netdev, now, status, vfs
from tests.lab.install import vfagent_tree
from tests.lab.nic import Igb
from tests.lab.vm import VM
from tests.lab.warm import WarmVM

pytestmark = pytest.mark.long
PF, LATE = "0000:01:00.0", "0000:02:00.0"
POLICY = """
[[pf]]
name = "storage"
match = { driver = "igb" }
vfs = 3

[[pf.vf]]
index = "*"
driver = "vfio-pci"
mac = "stable"
vlan = 10
"""
STATE = "/run/vfagent /var/lib/vfagent"
DROP_IN = "/run/systemd/system/vfagent.service.d/watchdog.conf"


@pytest.fixture(scope="module")
def vm(warm_module: Callable[..., WarmVM]) -> WarmVM:
    machine = warm_module([Igb("igb0")], vfagent_tree(POLICY))
    machine.run("systemctl start vfagent.service", timeout=120)
    machine.wait_for(lambda: is_as_wanted(machine), 60)
    return machine


@pytest.fixture(autouse=True)
def left_converged(vm: WarmVM) -> Iterator[None]:
    yield
    vm.wait_for("systemctl is-active vfagent.service", 30)  # a storm of reloads takes a while
    vm.wait_for(lambda: is_as_wanted(vm) and status(vm)[PF]["phase"] == "converged", 30)


def is_as_wanted(vm: VM, pf: str = PF) -> bool:
    return [(vf.driver, vf.vlan) for vf in vfs(vm, pf)] == [("vfio-pci", 10)] * 3


def set_vlan(vm: VM, vlan: int) -> str:
    return f"ip link set {netdev(vm, PF)} vf 1 vlan {vlan}"


def main_pid(vm: VM) -> int:
    return int(vm.run("systemctl show -P MainPID vfagent.service").stdout)


def restarts(vm: VM) -> int:
    return int(vm.run("systemctl show -P NRestarts vfagent.service").stdout)


@pytest.fixture
def without_watchdog(vm: WarmVM) -> Iterator[None]:
    """systemd's watchdog would restart a stopped agent after ten minutes."""
    yield from with_watchdog(vm, 0)


@pytest.fixture
def soon_watched(vm: WarmVM) -> Iterator[None]:
    """With an interval that a test can wait for."""
    yield from with_watchdog(vm, 20)


def with_watchdog(vm: WarmVM, seconds: int) -> Iterator[None]:
    vm.put(DROP_IN, f"[Service]\nWatchdogSec={seconds}\n".encode())
    vm.run("systemctl daemon-reload; systemctl restart vfagent.service", timeout=120)
    yield
    vm.run(f"rm {DROP_IN}; systemctl daemon-reload; systemctl restart vfagent.service", timeout=120)


@pytest.mark.usefixtures("without_watchdog")
def test_ten_thousand_events_overflow_the_socket_and_nothing_is_missed(vm: WarmVM) -> None:
    """The agent is stopped meanwhile; the VLAN that is changed then causes no uevent of its own."""
    pid, before = main_pid(vm), now(vm)
    storm = f"for i in $(seq 10000); do echo change; done >{SYSFS}/{PF}/uevent; udevadm settle --timeout=540"
    vm.run(f"kill -STOP {pid}; {set_vlan(vm, 77)}; {storm}; kill -CONT {pid}", timeout=600)
    vm.wait_for(lambda: is_as_wanted(vm), 60)
    vm.wait_for(lambda: "udev events were lost" in journal(vm, before), 20)
    assert main_pid(vm) == pid
    assert len(re.findall(r"(?im)^pf 0000:01:00\.0[^:]*: set ", journal(vm, before))) == 1


def test_a_restart_of_udevd_has_no_effect(vm: WarmVM) -> None:
    vm.run("systemctl restart systemd-udevd.service")
    card = Igb("late-udevd")
    assert vm.hotplug(card) == LATE
    vm.wait_for(lambda: is_as_wanted(vm, LATE), 60)
    vm.unplug(card)
    vm.wait_for(lambda: LATE not in status(vm), 30)


def test_the_agent_survives_a_restart_of_the_bus(vm: WarmVM) -> None:
    pid = main_pid(vm)
    vm.run("systemctl restart dbus.service", check=False)
    vm.run(set_vlan(vm, 20))
    vm.wait_for(lambda: is_as_wanted(vm), 20)
    assert main_pid(vm) == pid


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_pfs_converge_where_no_state_can_be_written(vm: WarmVM, how: str) -> None:
    """The failed writes are logged, and no partial file is left."""
    mount = "nr_inodes=1" if how == "full" else "ro"
    vm.run("systemctl stop vfagent.service")
    for folder in STATE.split():
        vm.run(f"mount -t tmpfs -o mode=$(stat -c %a {folder}),{mount} tmpfs {folder}")
    before = now(vm)
    vm.run(f"echo 0 >{SYSFS}/{PF}/sriov_numvfs; systemctl start vfagent.service", timeout=120, check=False)
    try:
        vm.wait_for(lambda: is_as_wanted(vm), 60)
        vm.wait_for(lambda: "cannot store what the PF was before" in journal(vm, before), 20)
        assert "cannot write status.json" in journal(vm, before)
        assert "Traceback" not in journal(vm, before)
        assert vm.run(f"find {STATE} -type f").stdout == ""
    finally:
        vm.run(f"systemctl stop vfagent.service; umount {STATE}; systemctl start vfagent.service", timeout=120)
    vm.wait_for(lambda: is_as_wanted(vm), 60)


@pytest.mark.parametrize("damage", ["truncate -s 7", "sh -c 'echo garbage >$0'", "sh -c 'echo [[[[ >$0'"])
def test_damaged_state_files_are_ignored(vm: WarmVM, damage: str) -> None:
    before = now(vm)
    vm.run("systemctl stop vfagent.service")
    vm.run(f"find {STATE} -type f | while read -r file; do {damage} $file; done")
    vm.run(f"echo 0 >{SYSFS}/{PF}/sriov_numvfs; systemctl start vfagent.service", timeout=120)
    vm.wait_for(lambda: is_as_wanted(vm), 60)
    assert "Traceback" not in journal(vm, before)


@pytest.mark.parametrize("jump", ["1990-01-01", "2037-01-01"])
def test_a_clock_jump_has_no_effect(vm: WarmVM, jump: str) -> None:
    today, pid = vm.run("date +%s").stdout.strip(), main_pid(vm)
    vm.run(f"date -s {jump}; {set_vlan(vm, 20)}")
    vm.wait_for(lambda: is_as_wanted(vm), 20)
    vm.run(f"date -s @{today}; {set_vlan(vm, 21)}")
    vm.wait_for(lambda: is_as_wanted(vm), 20)
    assert main_pid(vm) == pid


def test_a_storm_of_reloads_ends_with_the_last_policy(vm: WarmVM) -> None:
    pid = main_pid(vm)
    vm.run(f"for i in $(seq 1000); do kill -HUP {pid}; done")
    vm.run(set_vlan(vm, 20))
    vm.wait_for(lambda: is_as_wanted(vm), 40)
    assert main_pid(vm) == pid


def test_a_policy_that_is_replaced_repeatedly_is_never_read_in_part(vm: WarmVM) -> None:
    before = now(vm)
    swap = "cp /etc/vfagent/policy.toml /run/p; for i in $(seq 30); do cp /run/p /etc/vfagent/policy.new; "
    swap += "mv /etc/vfagent/policy.new /etc/vfagent/policy.toml; systemctl kill -s HUP vfagent.service; done"
    vm.run(swap, timeout=90)
    vm.wait_for("sleep 3; systemctl is-active vfagent.service", 20)
    assert vm.run(f"journalctl -q -u vfagent.service -p err --since '{before}'").stdout == ""


@pytest.mark.usefixtures("soon_watched")
def test_an_agent_that_hangs_is_restarted_and_no_vf_is_touched(vm: WarmVM) -> None:
    count, pid = restarts(vm), main_pid(vm)
    vm.run(f"kill -STOP {pid}")
    vm.wait_for(lambda: restarts(vm) == count + 1 and main_pid(vm) not in (0, pid), 90)
    vm.wait_for("vfagent status", 60)
    # By its process: the tests that make the clock jump leave it some seconds behind.
    logged = vm.run(f"journalctl -q --no-pager -o cat _PID={main_pid(vm)}").stdout
    assert "converged" in logged
    assert not re.search(r"(?im)^pf [0-9a-f:.]+[^:]*: (create|remove|bind|set) ", logged)


def test_a_card_may_be_unplugged_at_any_moment_of_its_convergence(vm: WarmVM) -> None:
    """Unplugged a little later each time; after the last hotplug it is configured."""
    before = now(vm)
    for number in range(8):
        card = Igb(f"pulled-{number}")
        vm.plug(card)
        vm.wait_for(f"test -e {SYSFS}/{LATE}/sriov_numvfs", 30)
        time.sleep(0.4 * number)
        vm.unplug(card)
        vm.wait_for(lambda: LATE not in status(vm), 60)
    card = Igb("stays")
    vm.hotplug(card)
    vm.wait_for(lambda: is_as_wanted(vm, LATE), 60)
    assert "Traceback" not in journal(vm, before)
    vm.unplug(card)
    vm.wait_for(lambda: LATE not in status(vm), 30)


def test_a_pf_whose_driver_is_rebound_gets_its_vfs_again(vm: WarmVM) -> None:
    vm.run(f"echo {PF} >/sys/bus/pci/drivers/igb/unbind; sleep 1; echo {PF} >/sys/bus/pci/drivers/igb/bind", timeout=90)
    vm.wait_for(lambda: is_as_wanted(vm), 60)


def test_a_renamed_pf_is_the_same_pf(vm: WarmVM) -> None:
    name = netdev(vm, PF)
    vm.run(f"ip link set {name} down; ip link set {name} name other0; ip link set other0 up")
    vm.run(set_vlan(vm, 20))
    vm.wait_for(lambda: is_as_wanted(vm), 20)
    vm.run(f"ip link set other0 down; ip link set other0 name {name}; ip link set {name} up")
    vm.wait_for(lambda: is_as_wanted(vm) and status(vm)[PF]["phase"] == "converged", 20)
