# SPDX-License-Identifier: Apache-2.0
"""One 82576 under a policy: boot, drift, reload, VFs in use, apply, release. Each test leaves the VM converged."""

import json
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.lab.facts import SYSFS, VfFacts, journal, link, netdev, now, status, vfs
from tests.lab.install import vfagent_tree
from tests.lab.nic import Igb
from tests.lab.payload import Entry
from tests.lab.vf_user import VF_USER
from tests.lab.vm import VM

PF = "0000:01:00.0"
POLICY = """
[[pf]]
name = "storage"
match = { driver = "igb" }
vfs = 4

[[pf.vf]]
index = "*"
driver = "vfio-pci"
mac = "52:54:00:bb:00:{index:02x}"
vlan = 10
spoof_check = true
link_state = "enable"
"""
# Ordered after the service: it records the state at READY.
WITNESS = b"""[Unit]
After=vfagent.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'readlink -f /sys/bus/pci/devices/0000:01:00.0/virtfn*/driver >/run/witness'
"""


# The card's driver is loaded late, after the service would stop waiting for an idle PF.
SLOW_UDEV = b"""SUBSYSTEM=="pci", KERNEL=="0000:01:00.0", ACTION=="add", PROGRAM="/bin/sleep 15"
"""


@pytest.fixture(scope="module")
def vm(boot_module: Callable[..., VM]) -> VM:
    extra = {
        "/usr/lib/systemd/system/witness.service": Entry(WITNESS),
        "/etc/systemd/system/multi-user.target.wants/witness.service": Entry(
            target="/usr/lib/systemd/system/witness.service"
        ),
        "/etc/udev/rules.d/10-slow.rules": Entry(SLOW_UDEV),
        "/usr/lib/vf_user.py": Entry(VF_USER),
    }
    machine = boot_module([Igb("igb0")], vfagent_tree(POLICY, extra))
    assert machine.wait_boot() == "running"
    return machine


@pytest.fixture(autouse=True)
def left_converged(vm: VM) -> Iterator[None]:
    yield
    as_before = vm.get("/etc/vfagent/policy.toml") == POLICY.encode()
    if not (as_before and held(vm) == wanted() and _active(vm)):
        vm.put("/etc/vfagent/policy.toml", POLICY.encode())
        vm.run("systemctl start vfagent.service; systemctl reload vfagent.service")
        # While six VFs are removed, there are four for a moment.
        vm.wait_for(lambda: held(vm) == wanted() and status(vm)[PF]["phase"] == "converged", 40)


def _active(vm: VM) -> bool:
    return vm.run("systemctl is-active vfagent.service", check=False).returncode == 0


def wanted(count: int = 4, vlan: int = 10) -> list[tuple[str, str, int]]:
    return [("vfio-pci", f"52:54:00:bb:00:{index:02x}", vlan) for index in range(count)]


def held(vm: VM) -> list[tuple[str, str, int]]:
    return [(vf.driver, vf.mac, vf.vlan) for vf in vfs(vm, PF)]


def wait_for_vfs(vm: VM, expected: list[tuple[str, str, int]], timeout: float = 40) -> None:
    vm.wait_for(lambda: held(vm) == expected, timeout)


def hold(vm: VM, vf: VfFacts) -> None:
    """Opens a VF as a VMM does, until the unit is stopped."""
    vm.run(f"systemd-run --quiet --unit=vf-user python3 /usr/lib/vf_user.py {vf.address}")
    vm.wait_for(f"grep -q 1 {SYSFS}/{vf.address}/enable")


@contextmanager
def opened(vm: VM, vf: VfFacts) -> Iterator[None]:
    """A VF in use."""
    try:
        hold(vm, vf)
        yield
    finally:
        vm.run("systemctl stop vf-user.service")


def reload_with(vm: VM, policy: str) -> None:
    vm.put("/etc/vfagent/policy.toml", policy.encode())
    vm.run("systemctl reload vfagent.service")


def test_after_boot_the_vfs_are_as_the_policy_says(vm: VM) -> None:
    assert held(vm) == wanted()
    assert "UP" in link(vm, PF)["flags"]  # type: ignore[operator]


def test_ready_comes_after_the_vfs(vm: VM) -> None:
    assert vm.get("/run/witness").decode().split() == ["/sys/bus/pci/drivers/vfio-pci"] * 4


def test_the_journal_of_a_start_has_only_messages_of_vfagent_and_systemd(vm: VM) -> None:
    """Libraries are silent: pyroute2 would warn that /proc/net/psched is hidden."""
    lines = vm.run("journalctl -b -q -u vfagent.service -o json").stdout.splitlines()
    entries = [json.loads(line) for line in lines]
    processes = [entry for entry in entries if entry.get("_PID") != "1"]
    assert any("converged" in str(entry["MESSAGE"]) for entry in processes)
    # The journal's handler sets LOGGER; what a library or the interpreter prints to standard error has none.
    assert [entry for entry in processes if not entry.get("LOGGER", "").startswith("vfagent.")] == []
    assert [entry for entry in entries if re.search("pyroute2|psched", str(entry["MESSAGE"]))] == []


def test_the_vf_driver_never_probed_a_vf(vm: VM) -> None:
    lines = [line for line in vm.run("dmesg").stdout.splitlines() if re.search(r"igbvf 0000:", line)]
    assert lines == []


def test_an_unsupported_setting_is_noted_once_and_is_no_failure(vm: VM) -> None:
    pf = status(vm)[PF]
    assert pf["phase"] == "converged"
    assert pf["notes"] == ["link_state is not supported by igb"]
    assert journal(vm).count("link_state is not supported") == 1


def test_a_vlan_changed_by_hand_is_restored_and_both_values_are_logged(vm: VM) -> None:
    before = now(vm)
    vm.run(f"ip link set {netdev(vm, PF)} vf 1 vlan 20")
    wait_for_vfs(vm, wanted(), 10)
    text = journal(vm, before)
    assert re.search(r"drift: found vlan 20, wanted: set \S+/vf1 vlan 10", text)


def test_drift_is_repaired_within_two_seconds(vm: VM) -> None:
    name = netdev(vm, PF)
    gone = f"while ip link show {name} | grep -q 'vlan 21'; do :; done"
    vm.run(f'ip link set {name} vf 2 vlan 21; timeout 2 sh -c "{gone}"')
    assert held(vm) == wanted()


def test_a_vf_unbound_by_hand_is_bound_again(vm: VM) -> None:
    address = vfs(vm, PF)[3].address
    vm.run(f"echo {address} >/sys/bus/pci/drivers/vfio-pci/unbind")
    wait_for_vfs(vm, wanted(), 10)


def test_vfs_removed_by_hand_are_created_again(vm: VM) -> None:
    before = now(vm)
    vm.run(f"echo 0 >{SYSFS}/{PF}/sriov_numvfs")
    wait_for_vfs(vm, wanted())
    assert "drift: found 0 VFs, wanted: create 4 VFs" in journal(vm, before)


def test_a_pf_set_down_by_hand_comes_up_again(vm: VM) -> None:
    vm.run(f"ip link set {netdev(vm, PF)} down")
    vm.wait_for(lambda: "UP" in link(vm, PF)["flags"], 15)  # type: ignore[operator]


def test_a_reload_with_more_vfs_creates_them(vm: VM) -> None:
    reload_with(vm, POLICY.replace("vfs = 4", "vfs = 6"))
    wait_for_vfs(vm, wanted(6))


def test_a_vf_in_use_is_kept_and_the_change_follows_its_release(vm: VM) -> None:
    before = vfs(vm, PF)
    with opened(vm, before[1]):
        reload_with(vm, POLICY.replace("vfs = 4", "vfs = 6"))
        vm.wait_for(lambda: status(vm)[PF]["phase"] == "deferred", 20)
        assert vfs(vm, PF) == before
        deferred = str(status(vm)[PF]["deferred"])
        assert "create 6 VFs" in deferred
        assert "vf1: a process has it open through vfio-pci" in deferred
        assert vm.run("vfagent plan", check=False).returncode == 3
    wait_for_vfs(vm, wanted(6))


def test_drift_of_a_vf_in_use_is_reported_and_not_repaired(vm: VM) -> None:
    with opened(vm, vfs(vm, PF)[0]):
        vm.run(f"ip link set {netdev(vm, PF)} vf 0 vlan 30")
        vm.wait_for(lambda: status(vm)[PF]["phase"] == "deferred", 10)
        assert vfs(vm, PF)[0].vlan == 30
    wait_for_vfs(vm, wanted(), 15)


def test_after_an_invalid_edit_the_old_policy_stays_active(vm: VM) -> None:
    before = now(vm)
    vm.put("/etc/vfagent/policy.toml", POLICY.replace("vlan = 10", "vlan = 5000").encode())
    assert vm.run("systemctl reload vfagent.service", check=False).returncode != 0
    assert vm.run("vfagent apply", check=False).returncode == 4
    assert vm.run("systemctl is-active vfagent.service").stdout == "active\n"
    place = '/etc/vfagent/policy.toml:11:8: pf "storage".vf "*".vlan'
    assert place in journal(vm, before)
    assert place in vm.run("vfagent status", check=False).stdout
    assert vm.run("vfagent check", check=False).returncode == 4
    assert held(vm) == wanted()


def test_doctor_finds_no_error_on_a_converged_host(vm: VM) -> None:
    done = vm.run("vfagent doctor", check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_restart_and_stop_leave_the_vfs_alone(vm: VM) -> None:
    before = now(vm)
    vm.run("systemctl restart vfagent.service")
    vm.run("systemctl stop vfagent.service")
    assert held(vm) == wanted()
    assert not re.search(r"(?im)^pf [0-9a-f:.]+[^:]*: (create|remove|bind|set) ", journal(vm, before))


def test_apply_converges_without_the_service_and_then_does_nothing(vm: VM) -> None:
    vm.run("systemctl stop vfagent.service")
    vm.run(f"echo 0 >{SYSFS}/{PF}/sriov_numvfs")
    assert vm.run("vfagent apply", timeout=120).returncode == 0
    assert held(vm) == wanted()
    assert "nlmsg_type" in traced_apply(vm)


def traced_apply(vm: VM) -> str:
    """The trace of an `apply` without the service that changes nothing."""
    vm.run("strace -f -y -e trace=openat,sendto,sendmsg -e abbrev=none -o /tmp/trace vfagent apply", timeout=180)
    trace = vm.get("/tmp/trace").decode()
    writes = [line for line in trace.splitlines() if re.search(r'"/sys/[^"]*", O_(WRONLY|RDWR)', line)]
    assert writes == []
    # RTM_NEWLINK is 0x10, RTM_SETLINK 0x13: nothing but reads (0x12, 0x16, 0x1a) goes out.
    assert re.findall(r"nlmsg_type=(RTM_NEWLINK|RTM_SETLINK|0x10|0x13)\b", trace) == []
    return trace


# What seed.md S1 to S7 types; the VLAN interface and the bridge are nobody's but the administrator's.
BY_HAND = f"""
echo 3 >{SYSFS}/{PF}/sriov_numvfs
modprobe vfio_pci
for vf in {SYSFS}/{PF}/virtfn*; do
    echo vfio-pci >$vf/driver_override
    test ! -e $vf/driver || basename $(readlink -f $vf) >$vf/driver/unbind
    basename $(readlink -f $vf) >/sys/bus/pci/drivers_probe
done
ip link set $PARENT up
ip link set $PARENT vf 0 vlan 10
ip link set $PARENT vf 1 mac 52:54:00:bb:00:77
ip link set $PARENT vf 2 spoofchk off
ip link add vlan20 link $PARENT type vlan id 20
ip link add br20 type bridge
ip link set vlan20 master br20
ip link set vlan20 up
ip link set br20 up
ip address add 192.0.2.1/24 dev br20
"""


def network(vm: VM) -> list[object]:
    """What somebody has set of each interface. Flags and states follow the carrier."""
    links = json.loads(vm.run("ip -j link").stdout)
    names = ("ifname", "address", "mtu", "master", "ifalias")
    return [*([link.get(name) for name in names] for link in links), vm.run("ip -4 -o address show br20").stdout]


@pytest.fixture
def set_up_by_hand(vm: VM) -> Iterator[None]:
    """vfagent knows nothing of the card, and is not running. What follows finds a card that nobody has set up."""
    parent = netdev(vm, PF)
    try:
        vm.run(f"vfagent release {PF}; systemctl stop vfagent.service", timeout=120)
        vm.run("rm -rf /run/vfagent/released /run/vfagent/driver-state")
        vm.run(f"PARENT={parent}; {BY_HAND}", timeout=120)
        yield
    finally:
        vm.run("systemctl stop vfagent.service; ip link delete vlan20; ip link delete br20", check=False)
        vm.run(f"rm -rf /var/lib/vfagent/baseline; echo 0 >{SYSFS}/{PF}/sriov_numvfs; ip link set {parent} down")


@pytest.mark.usefixtures("set_up_by_hand")
def test_a_host_that_was_set_up_by_hand_is_adopted_and_nothing_changes(vm: VM) -> None:
    before, interfaces = held(vm), network(vm)
    assert [vf[0] for vf in before] == ["vfio-pci"] * 3
    vm.run("vfagent init --output /etc/vfagent/policy.toml --force")
    policy = vm.get("/etc/vfagent/policy.toml").decode()
    for line in ("vfs = 3", "vlan = 10", 'mac = "52:54:00:bb:00:77"', "spoof_check = false", 'name = "vlan20"'):
        assert f"\n{line}\n" in policy, policy
    assert vm.run("vfagent plan").returncode == 0
    traced_apply(vm)
    since = now(vm)
    vm.run("systemctl start vfagent.service")
    assert status(vm)[PF]["phase"] == "converged"
    assert not re.search(r"(?im)^pf [0-9a-f:.]+[^:]*: (create|remove|bind|set) ", journal(vm, since))
    assert held(vm) == before
    assert network(vm) == interfaces


def test_apply_beside_the_service_gives_the_verdict(vm: VM) -> None:
    vm.put("/etc/vfagent/policy.toml", POLICY.replace("vlan = 10", "vlan = 20").encode())
    assert vm.run("vfagent apply --yes", timeout=120).returncode == 0
    assert held(vm) == wanted(vlan=20)
    with opened(vm, vfs(vm, PF)[1]):
        vm.put("/etc/vfagent/policy.toml", POLICY.replace("vfs = 4", "vfs = 6").encode())
        deferred = vm.run("vfagent apply --yes", check=False, timeout=120)
    assert deferred.returncode == 5
    assert "vf1: a process has it open through vfio-pci" in deferred.stderr


def test_a_policy_that_is_not_confirmed_is_left_again_also_by_a_killed_service(vm: VM) -> None:
    vm.put("/etc/vfagent/policy.toml", POLICY.replace("vlan = 10", "vlan = 20").encode())
    assert vm.run("vfagent apply --yes --confirm 10s", timeout=120).returncode == 0
    assert held(vm) == wanted(vlan=20)
    vm.run("systemctl kill -s KILL vfagent.service")
    wait_for_vfs(vm, wanted(), 60)
    assert "was not confirmed" in vm.run("vfagent status", check=False).stdout
    assert vm.run("vfagent confirm", check=False).returncode == 1


def test_varlinkctl_introspects_and_calls_the_service(vm: VM) -> None:
    sock = "/run/vfagent/control.sock"
    assert "io.vfagent.Guest" in vm.run(f"varlinkctl info {sock}").stdout
    for interface in ("io.vfagent", "io.vfagent.Guest", "org.varlink.service"):
        assert f"interface {interface}" in vm.run(f"varlinkctl introspect {sock} {interface}").stdout
    answer = vm.run(f"varlinkctl --json=short call {sock} io.vfagent.Status '{{}}'").stdout
    assert json.loads(answer)["status"]["pfs"][0]["phase"] == "converged"
    assert "digest" in vm.run(f"varlinkctl call {sock} io.vfagent.Reload '{{}}'").stdout


def test_release_restores_the_pf_until_the_next_reload(vm: VM) -> None:
    assert vm.run(f"vfagent release {netdev(vm, PF)}", timeout=120).returncode == 0
    assert vfs(vm, PF) == []
    assert vm.run(f"cat {SYSFS}/{PF}/sriov_drivers_autoprobe").stdout == "1\n"
    assert "UP" not in link(vm, PF)["flags"]  # type: ignore[operator]
    vm.wait_for(lambda: status(vm)[PF]["phase"] == "released", 10)
    time.sleep(3)
    assert vfs(vm, PF) == []


def test_release_is_refused_while_a_vf_is_in_use(vm: VM) -> None:
    before = vfs(vm, PF)
    with opened(vm, before[2]):
        done = vm.run(f"vfagent release {PF}", check=False)
    assert done.returncode == 5
    assert "vf2: a process has it open through vfio-pci" in done.stderr
    assert vfs(vm, PF) == before


def test_an_agent_killed_at_any_moment_converges_to_the_same_state(vm: VM) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    for _ in range(20):
        vm.run(f"systemctl reset-failed vfagent.service; echo 0 >{SYSFS}/{PF}/sriov_numvfs")
        time.sleep(moments.uniform(0.0, 4.0))
        vm.run("systemctl kill --signal=KILL vfagent.service")
        vm.wait_for("systemctl is-active --quiet vfagent.service", 60)
        wait_for_vfs(vm, wanted())
    assert vm.run("vfagent plan").returncode == 0
    # The service, and its standby worker.
    vm.wait_for(lambda: vm.run("pgrep -c -f 'vfagent run'").stdout == "2\n", 20)
