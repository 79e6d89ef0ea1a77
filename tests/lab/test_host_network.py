# SPDX-License-Identifier: Apache-2.0
"""The host's network on a real card: a VLAN interface, its bridge and address, and the traffic through them."""

import json
from collections.abc import Callable

import pytest

from tests.lab.facts import SYSFS, hwmode, journal, netdev, now, status, vfs
from tests.lab.install import vfagent_tree
from tests.lab.nic import Igb
from tests.lab.payload import Entry
from tests.lab.transfer import TRANSFER, transfer
from tests.lab.vm import VM
from tests.lab.warm import WarmVM

pytestmark = pytest.mark.long
PF = "0000:01:00.0"
ADDRESS = "192.168.10.1/24"
VLAN = f"""
[[pf.vlan]]
id = 10
name = "vlan10"
addresses = ["{ADDRESS}"]
take_addresses_from = "old0"
"""
BRIDGED = f"""{VLAN}bridge = "virbr0"

[[bridge]]
name = "virbr0"
"""
CARD = """
[[pf]]
name = "net"
match = { driver = "igb" }
vfs = 2

[[pf.vf]]
driver = "host"
vlan = 10
"""
# Two guests: one on a VF, one on a bridge port, as with a tap of QEMU.
GUESTS = f"""
set -e
ip netns add vf
ip link set $(ls {SYSFS}/$(basename $(readlink {SYSFS}/{PF}/virtfn0))/net) netns vf name eth0
ip -n vf addr add 192.168.10.10/24 dev eth0
ip -n vf link set eth0 up
"""
VIRTIO = """
set -e
ip netns add virtio
ip link add vnet0 type veth peer name eth0 netns virtio
ip link set vnet0 master virbr0 up
ip -n virtio addr add 192.168.10.20/24 dev eth0
ip -n virtio link set eth0 up
"""
SERVES = {"host": "192.168.10.1", "vf": "192.168.10.10", "virtio": "192.168.10.20"}
NETDEV = b"[NetDev]\nName=br9\nKind=bridge\n[Bridge]\nSTP=no\n"
# A bridge's MTU follows its ports unless it is set after the bridge was created.
NETWORK = b"[Match]\nName=br9\n[Link]\nMTUBytes=1400\n[Network]\nAddress=192.168.99.1/24\nConfigureWithoutCarrier=yes\n"
# A VF guest sends to the host without pause; each millisecond a bind checks whether the address is on this host.
STEADY = b"""
import os, socket, subprocess, threading, time
send = "import socket, time; s = socket.create_connection(('192.168.10.1', 7001))"
send += "\\nwhile True: s.sendall(b'x' * 1000); time.sleep(0.01)"
server = socket.create_server(("192.168.10.1", 7001))
client = subprocess.Popen(["ip", "netns", "exec", "vf", "python3", "-c", send])
connection, _ = server.accept()
server.close()
heard, gap, samples, since, written = time.monotonic(), 0.0, 0, None, 0.0
connection.setblocking(False)
while True:
    now = time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("192.168.10.1", 0))
            since = None
        except OSError:
            since = since or now
            gap = max(gap, now - since)
    samples += 1
    try:
        heard = now if connection.recv(65536) else 0.0
    except BlockingIOError:
        pass
    if now - written > 0.5:
        written, alive = now, "yes" if now - heard < 2.0 else "no"
        with open("/run/steady.new", "w") as file:
            file.write(f"alive {alive}\\ngap {gap}\\nsamples {samples}\\n")
        os.rename("/run/steady.new", "/run/steady")
    time.sleep(0.001)
"""
# The move by vfagent's own code, with SIGKILL before one of its changes.
MORTAL = f"""
import os, signal, sys
from dataclasses import replace
from vfagent.store.identity import open_host
from vfagent.model.network import Move
from vfagent.reconcile.move_addresses import move_addresses
from vfagent.plan.network_steps import MoveAddresses
class Mortal:
    def __init__(self, real):
        self.real = real
    def __getattr__(self, name):
        method = getattr(self.real, name)
        return method if name != sys.argv[1] else lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
host = open_host()
host = replace(host, network=Mortal(host.network), routes=Mortal(host.routes), moves=Mortal(host.moves))
move_addresses(MoveAddresses("{PF}", Move("old0", "vlan10", ("{ADDRESS}",))), host)
""".encode()


def _less(facts: dict[str, object], key: str) -> dict[str, object]:
    return {name: value for name, value in facts.items() if name != key}


def policy(vm: VM, text: str) -> None:
    vm.put("/etc/vfagent/policy.toml", text.encode())
    vm.run("systemctl reload-or-restart vfagent")


def settled(vm: VM, timeout: float = 60) -> None:
    vm.wait_for(lambda: status(vm)[PF]["phase"] == "converged", timeout)


def addresses(vm: VM, name: str) -> set[str]:
    links = json.loads(vm.run(f"ip -j -4 addr show dev {name}", check=False).stdout or "[]")
    return {f"{address['local']}/{address['prefixlen']}" for link in links for address in link.get("addr_info", [])}


def link(vm: VM, name: str) -> dict[str, object]:
    [facts] = json.loads(vm.run(f"ip -j -d link show dev {name}").stdout)
    return dict(facts)


@pytest.fixture(scope="module")
def vm(warm_module: Callable[..., WarmVM]) -> WarmVM:
    programs = {"transfer": TRANSFER, "steady": STEADY, "mortal": MORTAL}
    payload = vfagent_tree(CARD + BRIDGED, {f"/usr/lib/{name}.py": Entry(text) for name, text in programs.items()})
    machine = warm_module([Igb("igb0")], payload)
    machine.run(f"ip link add old0 type dummy && ip addr add {ADDRESS} dev old0 && ip link set old0 up")
    machine.run("systemctl start vfagent", timeout=120)
    settled(machine)
    machine.run(GUESTS)
    machine.run(VIRTIO)
    return machine


def test_one_policy_creates_vlan_interface_bridge_and_address(vm: WarmVM) -> None:
    vlan_interface, bridge = link(vm, "vlan10"), link(vm, "virbr0")
    assert (vlan_interface["ifalias"], bridge["ifalias"], vlan_interface["master"]) == ("vfagent", "vfagent", "virbr0")
    assert vlan_interface["link"] == netdev(vm, PF)
    assert vlan_interface["linkinfo"]["info_data"]["id"] == 10  # type: ignore[index]
    assert (addresses(vm, "virbr0"), addresses(vm, "vlan10"), addresses(vm, "old0")) == ({ADDRESS}, set(), set())


def guest_mac(vm: VM) -> str:
    return str(json.loads(vm.run("ip -n virtio -j link show eth0").stdout)[0]["address"])


def in_fdb(vm: VM, mac: object) -> bool:
    return str(mac) in vm.run(f"bridge fdb show dev {netdev(vm, PF)}").stdout


def test_the_fdb_of_the_card_has_the_bridge_and_the_guest_on_it(vm: WarmVM) -> None:
    transfer(vm, "host", "virtio", SERVES["host"], 1, 20)
    vm.wait_for(lambda: in_fdb(vm, link(vm, "virbr0")["address"]), 20)
    vm.wait_for(lambda: in_fdb(vm, guest_mac(vm)), 20)


@pytest.mark.parametrize(("listener", "sender"), [("host", "vf"), ("vf", "host"), ("virtio", "vf"), ("vf", "virtio")])
def test_100_mb_are_sent_between_a_vf_guest_and_the_others(vm: WarmVM, listener: str, sender: str) -> None:
    assert transfer(vm, listener, sender, SERVES[listener], 100, 120) == "100"


@pytest.mark.parametrize("listener", ["host", "virtio"])
def test_without_fdb_entries_in_the_card_the_same_transfer_stalls(vm: WarmVM, listener: str) -> None:
    vm.run("systemctl stop vfagent")
    mac = link(vm, "virbr0")["address"] if listener == "host" else guest_mac(vm)
    vm.run(f"bridge fdb del {mac} dev {netdev(vm, PF)}")
    assert transfer(vm, listener, "vf", SERVES[listener], 100, 15) != "100"
    vm.run("systemctl start vfagent", timeout=120)
    vm.wait_for(lambda: in_fdb(vm, mac), 20)
    assert transfer(vm, listener, "vf", SERVES[listener], 20, 60) == "20"


def test_an_fdb_entry_removed_by_hand_comes_back(vm: WarmVM) -> None:
    mac = link(vm, "virbr0")["address"]
    vm.run(f"bridge fdb del {mac} dev {netdev(vm, PF)}")
    vm.wait_for(lambda: in_fdb(vm, mac), 10)


def test_addresses_learnt_from_the_wire_are_not_in_the_fdb_of_the_card(vm: WarmVM) -> None:
    [vf] = (vf for vf in vfs(vm, PF) if vf.index == 0)
    learned = vm.run("bridge fdb show br virbr0 brport vlan10").stdout
    mac = json.loads(vm.run("ip -n vf -j link show eth0").stdout)[0]["address"]
    assert mac in learned, vf
    assert not in_fdb(vm, mac)


def test_a_guest_that_leaves_its_bridge_leaves_the_fdb_of_the_card(vm: WarmVM) -> None:
    mac = guest_mac(vm)
    vm.run("ip link set vnet0 nomaster")
    vm.wait_for(lambda: not in_fdb(vm, mac), 20)
    vm.run("ip link set vnet0 master virbr0")
    transfer(vm, "host", "virtio", SERVES["host"], 1, 20)
    vm.wait_for(lambda: in_fdb(vm, mac), 20)


@pytest.mark.parametrize(
    ("harm", "held"),
    [
        ("ip link set vlan10 down", "ip link show vlan10 | grep -q 'state UP'"),
        ("ip link set vlan10 nomaster", "ip link show vlan10 | grep -q 'master virbr0'"),
        ("ip link set vlan10 mtu 1400", "ip link show vlan10 | grep -q 'mtu 1500'"),
        ("ip link del vlan10", "ip link show vlan10 | grep -q 'master virbr0'"),
        ("ip addr del 192.168.10.1/24 dev virbr0", "ip addr show virbr0 | grep -q 192.168.10.1/24"),
    ],
)
def test_a_change_by_hand_is_reverted_and_logged(vm: WarmVM, harm: str, held: str) -> None:
    settled(vm)
    since = now(vm)
    vm.run(harm)
    vm.wait_for(held, 15)
    vm.wait_for(lambda: "drift" in journal(vm, since), 5)
    settled(vm)


def test_a_bridge_removed_by_hand_comes_back_with_its_settings(vm: WarmVM) -> None:
    vm.run("ip link del virbr0")
    vm.wait_for("ip addr show virbr0 | grep -q 192.168.10.1/24", 5)
    vm.run("ip link set vnet0 master virbr0")
    settled(vm)
    vm.wait_for(lambda: in_fdb(vm, link(vm, "virbr0")["address"]), 10)


def test_a_foreign_bridge_is_used_and_neither_altered_nor_removed(vm: WarmVM) -> None:
    """Created by systemd-networkd, with settings that differ from the policy."""
    vm.put("/etc/systemd/network/br9.netdev", NETDEV)
    vm.put("/etc/systemd/network/br9.network", NETWORK)
    vm.run("systemctl start systemd-networkd && networkctl reload")
    vm.wait_for("ip link show br9 | grep -q UP", 20)
    before = {key: link(vm, "br9")[key] for key in ("mtu", "address", "linkinfo")}
    policy(vm, CARD + VLAN + 'bridge = "br9"\n[[bridge]]\nname = "br9"\nmtu = 1500\n')
    vm.wait_for("ip link show vlan10 | grep -q 'master br9'", 20)
    settled(vm)
    assert {key: link(vm, "br9")[key] for key in before if key != "linkinfo"} == _less(before, "linkinfo")
    assert "ifalias" not in link(vm, "br9")
    policy(vm, CARD)
    vm.wait_for("! ip link show vlan10", 20)
    assert link(vm, "br9")["address"] == before["address"]
    vm.wait_for("ip addr show old0 | grep -q 192.168.10.1/24", 10)
    assert addresses(vm, "br9") == {"192.168.99.1/24"}
    vm.run("systemctl stop systemd-networkd.socket systemd-networkd; ip link del br9; rm /etc/systemd/network/br9.*")


def test_without_a_bridge_the_vlan_interface_has_the_address(vm: WarmVM) -> None:
    policy(vm, CARD + VLAN)
    vm.wait_for("ip addr show vlan10 | grep -q 192.168.10.1/24", 20)
    settled(vm)
    assert (addresses(vm, "vlan10"), addresses(vm, "old0")) == ({ADDRESS}, set())
    assert "virbr0 is deferred: it still has ports: vnet0" in journal(vm)
    vm.run("ip link set vnet0 nomaster")
    vm.wait_for("! ip link show virbr0", 20)
    assert transfer(vm, "host", "vf", "192.168.10.1", 100, 120) == "100"


def test_an_address_on_a_bridge_port_is_rejected_with_the_reason(vm: WarmVM) -> None:
    bad = (CARD + BRIDGED).replace("old0", "vlan10")
    vm.put("/root/bad.toml", bad.encode())
    done = vm.run("vfagent check /root/bad.toml", check=False)
    assert done.returncode == 4
    assert "frames that reach a bridge port belong to the bridge" in done.stderr


def test_an_802_1ad_vlan_interface_has_the_mtu_of_its_rule(vm: WarmVM) -> None:
    policy(vm, CARD + '[[pf.vlan]]\nid = 30\nname = "prov30"\nprotocol = "802.1ad"\nmtu = 1400\n')
    vm.wait_for("ip link show prov30", 20)
    settled(vm)
    facts = link(vm, "prov30")
    assert (facts["mtu"], facts["linkinfo"]["info_data"]["protocol"]) == (1400, "802.1ad")  # type: ignore[index]
    vm.wait_for("! ip link show vlan10", 20)


def test_a_bridge_without_ports_exists_as_long_as_its_rule(vm: WarmVM) -> None:
    policy(vm, CARD + '[[bridge]]\nname = "lonely0"\nvlan_filtering = true\n')
    vm.wait_for("ip -d link show lonely0 | grep -q 'vlan_filtering 1'", 20)
    policy(vm, CARD)
    vm.wait_for("! ip link show lonely0", 20)


def test_an_open_connection_survives_moves_of_its_address(vm: WarmVM) -> None:
    """From the VLAN interface to a new bridge above it, and back, while a VF guest sends."""
    policy(vm, CARD + VLAN)
    vm.wait_for("ip addr show vlan10 | grep -q 192.168.10.1/24", 20)
    settled(vm)
    vm.run("systemd-run --unit steady python3 /usr/lib/steady.py")
    vm.wait_for("test -e /run/steady", 20)
    policy(vm, CARD + BRIDGED)
    vm.wait_for("ip addr show virbr0 | grep -q 192.168.10.1/24", 20)
    settled(vm)
    vm.wait_for("sleep 1; grep -q 'alive yes' /run/steady", 60)
    policy(vm, CARD + VLAN)
    vm.wait_for("ip addr show vlan10 | grep -q 192.168.10.1/24", 20)
    settled(vm)
    vm.wait_for("sleep 1; grep -q 'alive yes' /run/steady", 60)  # TCP retransmits less and less often
    logged = dict(line.split() for line in vm.run("cat /run/steady").stdout.splitlines())
    vm.run("systemctl stop steady")
    assert float(logged["gap"]) <= 0.05
    assert int(logged["samples"]) > 100


@pytest.mark.parametrize("before", ["borrow", "keep", "add_address", "put", "remove_address", "ask_for", "forget"])
def test_a_move_that_was_killed_is_finished_by_the_next_start(vm: WarmVM, before: str) -> None:
    vm.run("systemctl stop vfagent")
    vm.run(f"ip addr del {ADDRESS} dev vlan10; ip addr add {ADDRESS} dev old0; ip link set old0 up")
    vm.run("ip route replace 198.51.100.0/24 via 192.168.10.77 dev old0")
    assert vm.run(f"python3 /usr/lib/mortal.py {before}; exit $?", check=False).returncode == 137
    assert addresses(vm, "old0") | addresses(vm, "vlan10") == {ADDRESS}
    vm.run("systemctl start vfagent", timeout=120)
    settled(vm)
    assert (addresses(vm, "old0"), addresses(vm, "vlan10")) == (set(), {ADDRESS})
    assert "dev vlan10" in vm.run("ip route show 198.51.100.0/24").stdout
    assert not vm.run("ls /var/lib/vfagent/moves", check=False).stdout


def test_a_move_whose_probe_fails_is_reverted_and_not_retried(vm: WarmVM) -> None:
    policy(vm, CARD)
    vm.wait_for("! ip link show vlan10", 20)
    assert addresses(vm, "old0") == {ADDRESS}
    since = now(vm)
    policy(vm, CARD + VLAN + 'probe = "192.168.10.99"\n')
    vm.wait_for(lambda: status(vm)[PF]["phase"] == "failed", 40)
    assert (addresses(vm, "old0"), addresses(vm, "vlan10")) == ({ADDRESS}, set())
    assert "192.168.10.99 does not answer by vlan10; they are back where they were" in journal(vm, since)
    vm.run("sleep 15")
    assert journal(vm, since).count("does not answer") == 1
    policy(vm, CARD + VLAN + 'probe = "192.168.10.10"\n')
    vm.wait_for("ip addr show vlan10 | grep -q 192.168.10.1/24", 30)
    settled(vm)


def test_hwmode_is_set_again_with_the_vfs_or_noted_as_unsupported(vm: WarmVM) -> None:
    """The lab's module adds hwmode to one of two 82576, with the rules of real drivers."""
    vm.run("systemctl stop vfagent; ip -n vf link set eth0 netns 1; ip netns del vf; sleep 1")
    card = Igb("late")
    late = vm.hotplug(card)
    vm.wait_for(lambda: (netdev(vm, late) or "eth").startswith("en"), 20)  # renamed by udev
    name = netdev(vm, late)
    vm.run(f"modprobe hwmode pf={name} && test -e /sys/module/hwmode/parameters/pf")
    policy(vm, CARD.replace("vfs = 2", 'vfs = 2\nhwmode = "vepa"'))
    vm.wait_for(lambda: status(vm)[late]["phase"] == "converged", 60)
    settled(vm)
    assert (hwmode(vm, name), status(vm)[late]["hwmode"]) == ("VEPA", "vepa")
    assert "hwmode" in str(status(vm)[PF]["unsupported"])
    assert journal(vm).count(f"set hwmode of {PF}") <= 1
    vm.run(f"echo 0 >{SYSFS}/{late}/sriov_numvfs", timeout=90)
    vm.wait_for(lambda: len(vfs(vm, late)) == 2 and hwmode(vm, name) == "VEPA", 60)
    vm.run(f"bridge link set dev {name} hwmode veb")
    vm.wait_for(lambda: hwmode(vm, name) == "VEPA", 10)
    vm.unplug(card)


def test_a_released_pf_has_no_managed_vlan_interface(vm: WarmVM) -> None:
    policy(vm, CARD + VLAN)
    vm.wait_for("ip addr show vlan10 | grep -q 192.168.10.1/24", 30)
    settled(vm)
    done = vm.run(f"vfagent release --force {PF}", timeout=120)
    assert "remove vlan10" in done.stderr
    assert addresses(vm, "old0") == {ADDRESS}
    assert vm.run("ip link show vlan10", check=False).returncode
