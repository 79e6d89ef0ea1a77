# SPDX-License-Identifier: Apache-2.0
"""Two 82576, one of them plugged and unplugged: neither card affects the other."""

import json
from collections.abc import Callable
from itertools import product

import pytest

from tests.lab.facts import SYSFS, journal, netdev, now, status, vfs
from tests.lab.install import vfagent_tree
from tests.lab.nic import Igb
from tests.lab.payload import Entry
from tests.lab.test_one_card import traced_apply
from tests.lab.vf_user import VF_USER
from tests.lab.vm import VM
from vfagent.model.numvfs_lock import NumvfsLock, kernel_version, numvfs_lock

FIRST = "0000:01:00.0"
POLICY = """
[[pf]]
name = "guests"
match = { driver = "igb" }
vfs = 4

[[pf.vf]]
index = "*"
driver = "vfio-pci"
mac = "stable"
vlan = 10
"""


@pytest.fixture(scope="module")
def vm(boot_module: Callable[..., VM]) -> VM:
    machine = boot_module([Igb("igb0")], vfagent_tree(POLICY, {"/usr/lib/vf_user.py": Entry(VF_USER)}))
    assert machine.wait_boot() == "running"
    return machine


@pytest.fixture
def second(vm: VM) -> str:
    """The second card's PF, converged. It stays plugged in for the tests that follow."""
    if "igb1" not in {card.name for card in vm.cards.values()}:
        vm.hotplug(Igb("igb1"))
    pf = next(vm.address(card) for card in vm.cards.values() if card.name == "igb1")
    wait_converged(vm, pf)
    return pf


def wait_converged(vm: VM, pf: str, count: int = 4, timeout: float = 60) -> None:
    def done() -> bool:
        facts = vfs(vm, pf)
        return len(facts) == count and all(vf.driver == "vfio-pci" and vf.vlan == 10 for vf in facts)

    vm.wait_for(done, timeout)


def footprint(vm: VM) -> tuple[str, str]:
    """The agent's open descriptors, and the processes of its unit."""
    pid = "$(systemctl show --value --property MainPID vfagent.service)"
    fds = vm.run(f"ls /proc/{pid}/fd | wc -l").stdout.strip()
    return fds, vm.run("systemctl show --value --property TasksCurrent vfagent.service").stdout.strip()


def footprint_at_rest(vm: VM) -> tuple[str, str]:
    """With the standby worker, which is one task at first and two later."""
    readings: list[tuple[str, str]] = []

    def rests() -> bool:
        readings.append(footprint(vm))
        return readings[-1][1] != "1" and len(readings) > 4 and len(set(readings[-5:])) == 1

    vm.wait_for(rests, 40)
    return readings[-1]


def test_a_card_plugged_in_five_times_is_ready_each_time(vm: VM) -> None:
    before, macs = now(vm), set[tuple[str, ...]]()
    at_rest = footprint_at_rest(vm)
    for _ in range(5):
        pf = vm.hotplug(Igb("igb1"))
        wait_converged(vm, pf)
        macs.add(tuple(vf.mac for vf in vfs(vm, pf)))
        vm.unplug(next(card for card in vm.cards.values() if card.name == "igb1"))
        vm.wait_for(lambda pf=pf: pf not in status(vm), 20)  # type: ignore[misc]
    assert len(macs) == 1
    assert vm.run(f"journalctl -q -u vfagent.service -p err --since '{before}'").stdout == ""
    assert footprint_at_rest(vm) == at_rest
    assert vm.run("systemctl list-units --failed --no-legend").stdout == ""


def test_two_cards_converge_at_the_same_time(vm: VM, second: str) -> None:
    vm.put("/etc/vfagent/policy.toml", POLICY.replace("vfs = 4", "vfs = 5").encode())
    vm.run("systemctl reload vfagent.service")
    for pf in (FIRST, second):
        wait_converged(vm, pf, 5)
    vm.wait_for(lambda: all(status(vm)[pf]["phase"] == "converged" for pf in (FIRST, second)), 20)
    spans = [[(step["started"], step["ended"]) for step in status(vm)[pf]["timeline"]] for pf in (FIRST, second)]  # type: ignore[attr-defined]
    overlaps = [(a, b) for a, b in product(*spans) if a[0] < b[1] and b[0] < a[1]]
    assert overlaps
    vm.put("/etc/vfagent/policy.toml", POLICY.encode())
    vm.run("systemctl reload vfagent.service")
    for pf in (FIRST, second):
        wait_converged(vm, pf)


def test_a_stuck_card_delays_another_only_where_the_kernel_does(vm: VM, second: str) -> None:
    before, taken = now(vm), vfs(vm, second)[1]
    vm.run(f"systemd-run --quiet --unit=vf-user python3 /usr/lib/vf_user.py {taken.address}")
    vm.wait_for(f"grep -q 1 {SYSFS}/{taken.address}/enable")
    # Another program removes the VFs. That write waits for the VF's user with the PF's device lock held: any other
    # write of sriov_numvfs then waits too, and ignores SIGKILL.
    vm.run(f"systemd-run --quiet --unit=remover sh -c 'echo 0 >{SYSFS}/{second}/sriov_numvfs'")
    vm.wait_for(lambda: status(vm)[second]["phase"] == "stuck", 120)
    vm.run(f"ip link set {netdev(vm, FIRST)} vf 0 vlan 20")
    vm.wait_for(lambda: vfs(vm, FIRST)[0].vlan == 10, 5)
    assert status(vm)[second]["phase"] == "stuck"
    assert "stuck" in journal(vm, before)
    check_a_change_of_the_count(vm, second)
    vm.run("systemctl stop vf-user.service")
    for pf in (FIRST, second):
        wait_converged(vm, pf, 5, timeout=60)
    vm.wait_for(lambda: all(status(vm)[pf]["phase"] == "converged" for pf in (FIRST, second)), 40)
    vm.put("/etc/vfagent/policy.toml", POLICY.encode())
    vm.run("systemctl reload vfagent.service")
    for pf in (FIRST, second):
        wait_converged(vm, pf)


def check_a_change_of_the_count(vm: VM, stuck: str) -> None:
    """The first card is to have five VFs. Where the kernel has one lock for all cards, it waits and says so."""
    vm.put("/etc/vfagent/policy.toml", POLICY.replace("vfs = 4", "vfs = 5").encode())
    vm.run("systemctl reload vfagent.service")
    version = kernel_version(vm.run("uname -r").stdout, vm.run("uname -v").stdout)
    if numvfs_lock(version) is NumvfsLock.NONE:
        wait_converged(vm, FIRST, 5)
        return
    vm.wait_for(lambda: status(vm)[FIRST]["phase"] == "waiting", 20)
    assert f"the kernel is busy with PF {stuck} since " in str(status(vm)[FIRST]["waiting"])
    assert status(vm)[FIRST]["failures"] == []
    assert len(vfs(vm, FIRST)) == 4
    vm.run("systemctl restart vfagent.service")  # READY does not wait for either
    vm.wait_for(lambda: status(vm)[FIRST]["phase"] == "waiting", 20)
    # What it waits for is the kernel's: without it, this removal takes a second.
    vm.run(f"systemd-run --quiet --unit=writer sh -c 'echo 0 >{SYSFS}/{FIRST}/sriov_numvfs'")
    vm.run("sleep 5")
    assert vm.run("systemctl show --value --property ActiveState writer.service").stdout.strip() == "active"
    assert len(vfs(vm, FIRST)) == 4


def test_every_user_reads_the_status_and_the_plan(vm: VM) -> None:
    user = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    for words in ("status", "plan", "check", "list", "guest list"):
        assert vm.run(f"{user} vfagent {words}", check=False).returncode == 0, words
    assert vm.run(f"{user} flock --nonblock --shared /run/vfagent true", check=False).returncode != 0
    assert "run it as root" in vm.run(f"{user} vfagent reload", check=False).stderr


# systemd.link(5): udev makes the VFs and sets them when it handles the PF's netdev.
LINK = f"""[Match]
Path=pci-{FIRST}
[Link]
NamePolicy=keep
SR-IOVVirtualFunctions=3
[SR-IOV]
VirtualFunction=0
VLANId=10
[SR-IOV]
VirtualFunction=1
MACAddress=52:54:00:bb:00:77
[SR-IOV]
VirtualFunction=2
MACSpoofCheck=no
"""
LINK_FILE = "/etc/systemd/network/10-pf.link"


def test_a_host_that_link_files_set_up_is_adopted_and_nothing_changes(vm: VM) -> None:
    """The .link file stays, and goes on: `init` says so in the policy, and `doctor` later."""
    vm.run(f"vfagent release {FIRST}; systemctl stop vfagent.service", timeout=120)
    vm.run("rm -rf /run/vfagent/released /run/vfagent/driver-state")
    vm.put(LINK_FILE, LINK.encode())
    _handle_again(vm)
    before = vfs(vm, FIRST)
    assert [(vf.mac, vf.vlan) for vf in before][:2] == [(before[0].mac, 10), ("52:54:00:bb:00:77", 0)]
    assert len(before) == 3
    policy = _found(vm)
    for line in (
        "this rule is a comment",
        f"  set sriov_drivers_autoprobe of {FIRST} to 0",
        f"  set {FIRST} up",
        "vlan = 10",
    ):
        assert f"\n# {line}" in policy, policy
    _prepare(vm)
    policy = _found(vm)
    for line in ("vfs = 3", "vlan = 10", 'mac = "52:54:00:bb:00:77"', "spoof_check = false"):
        assert f"\n{line}\n" in policy, policy
    assert "# udev creates 3 VFs on it, too, and each undoes what the other does: remove SR-IOV" in policy
    assert vm.run("vfagent plan").returncode == 0
    traced_apply(vm)
    since = now(vm)
    vm.run("systemctl start vfagent.service")
    assert status(vm)[FIRST]["phase"] == "converged"
    assert vfs(vm, FIRST) == before
    assert _others(vm) == [f"udev creates 3 VFs on it ({LINK_FILE})"]
    vm.run(f"rm {LINK_FILE}")
    _handle_again(vm)
    assert _others(vm) == []
    assert vfs(vm, FIRST) == before
    assert f"{FIRST}: create" not in journal(vm, since)


def _found(vm: VM) -> str:
    vm.run(f"vfagent init --card {FIRST} --output /etc/vfagent/policy.toml --force")
    return vm.get("/etc/vfagent/policy.toml").decode()


def _prepare(vm: VM) -> None:
    """By hand, what vfagent does for each card beside what its rule says."""
    name = netdev(vm, FIRST)
    conf = f"/proc/sys/net/ipv6/conf/{name}"
    vm.run(f"echo 0 >{SYSFS}/{FIRST}/sriov_drivers_autoprobe; echo 0 >{conf}/accept_ra; echo 0 >{conf}/autoconf")
    vm.run(f"ip link set {name} addrgenmode none; ip link set {name} up")


def _handle_again(vm: VM) -> None:
    vm.run(f"udevadm control --reload; udevadm trigger --settle --action=add /sys/class/net/{netdev(vm, FIRST)}")


def _others(vm: VM) -> list[str]:
    done = vm.run("vfagent doctor --json", check=False, timeout=120)
    findings = json.loads(done.stdout)["findings"]
    return [finding["observed"] for finding in findings if finding["check"] == "other-manager"]
