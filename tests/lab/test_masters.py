# SPDX-License-Identifier: Apache-2.0
"""A PF that is a port of a bridge or bond: its frames stay its master's, and VFs reach who is behind the master.

The guests are network namespaces: one has a VF's netdev, the other a port of the bridge. The card's own switch carries
what they send to each other, as between two VMs, at a speed that a guest in an emulated host would not have.
"""

import json
from collections.abc import Callable, Iterator

import pytest

from tests.lab.facts import SYSFS, netdev, status, vfs
from tests.lab.install import vfagent_tree
from tests.lab.nic import Igb
from tests.lab.payload import Entry
from tests.lab.transfer import TRANSFER, transfer
from tests.lab.warm import WarmVM

PF = "0000:01:00.0"
PLAIN = f"""
[agent]
resync = "10s"

[[pf]]
name = "net"
match = {{ pci = "{PF}" }}
vfs = 2

[[pf.vf]]
index = "1"
driver = "host"
vlan = 10

[[pf.vf]]
driver = "host"
"""
NO_FDB = PLAIN.replace("vfs = 2", 'vfs = 2\nfdb = "off"')
VLAN = """
[[pf.vlan]]
id = 10
name = "vlan10"
addresses = ["192.168.99.1/24"]
"""
# Another host in VLAN 10. In QEMU a tagged frame from the wire does not reach a PF that has VFs; one from a VF does.
PEER = f"""
set -e
until ls {SYSFS}/{PF}/virtfn1/net/*; do sleep 0.3; done
ip netns add peer
ip link set $(ls {SYSFS}/$(basename $(readlink {SYSFS}/{PF}/virtfn1))/net) netns peer name eth0
ip -n peer addr add 10.10.0.2/24 dev eth0
ip -n peer link set eth0 up
"""
# Nearly every hypervisor's layout: the PF itself is a port of the bridge.
BRIDGE = f"""
set -e
ip link add vmbr0 type bridge
ip link set {{pf}} master vmbr0 up
ip addr add 192.168.10.1/24 dev vmbr0
ip link set vmbr0 up
ip netns add virtio
ip link add vnet0 type veth peer name eth0 netns virtio
ip link set vnet0 master vmbr0 up
ip -n virtio addr add 192.168.10.20/24 dev eth0
ip -n virtio link set eth0 up
ip netns add vf
ip link set $(ls {SYSFS}/$(basename $(readlink {SYSFS}/{PF}/virtfn0))/net) netns vf name eth0
ip -n vf addr add 192.168.10.10/24 dev eth0
ip -n vf link set eth0 up
"""
# VLAN-aware, with the host's address and its default route in VLAN 10 of the bridge.
VLAN_AWARE_BRIDGE = """
set -e
ip link add vmbr0 type bridge vlan_filtering 1
ip link set {pf} master vmbr0 up
ip link set vmbr0 up
bridge vlan add dev {pf} vid 10
bridge vlan add dev vmbr0 vid 10 self
ip link add link vmbr0 name host10 type vlan id 10
"""
BOND = """
set -e
ip link add bond0 type bond mode active-backup miimon 100
ip link set {pf} down
ip link set {pf} master bond0
ip link set bond0 up
ip link add link bond0 name host10 type vlan id 10
"""
ADMINISTERED = """
ip addr add 10.10.0.1/24 dev host10
ip link set host10 up
ip route replace default via 10.10.0.2 dev host10
"""
# Netdevs of PCI devices come back from a namespace that is removed, a moment later.
REMOVED = f"""
ip netns del vf; ip netns del virtio; ip link del byhand; ip link del host10; ip link del vmbr0; ip link del bond0
ip route replace default via 10.0.2.2 dev mgmt0
ip link set {{pf}} up
until ls {SYSFS}/{PF}/virtfn0/net/*; do sleep 0.3; done
"""
MASTERS = {"VLAN-aware bridge": ("vmbr0", VLAN_AWARE_BRIDGE), "bond": ("bond0", BOND)}


@pytest.fixture(scope="module")
def vm(warm_module: Callable[..., WarmVM]) -> WarmVM:
    machine = warm_module([Igb("igb0")], payload())
    machine.run("modprobe -a bridge bonding 8021q")
    machine.wait_for(lambda: netdev(machine, PF).startswith("en"), 30)  # named by udev
    machine.run("systemctl start vfagent", timeout=120)
    settled(machine)
    machine.run(PEER)
    return machine


def payload() -> dict[str, Entry]:
    return vfagent_tree(PLAIN, {"/usr/lib/transfer.py": Entry(TRANSFER)}, enabled=False)


@pytest.fixture(autouse=True)
def free_pf(vm: WarmVM) -> Iterator[None]:
    """Each test begins and ends with a PF of which nothing is made."""
    policy(vm, PLAIN)
    settled(vm)
    yield
    vm.run(REMOVED.format(pf=netdev(vm, PF)), check=False)


def policy(vm: WarmVM, text: str) -> None:
    vm.put("/etc/vfagent/policy.toml", text.encode())
    vm.run("systemctl reload vfagent")


def settled(vm: WarmVM) -> None:
    vm.wait_for(lambda: status(vm)[PF]["phase"] == "converged", 60)


def mac(vm: WarmVM, name: str, *, namespace: str = "") -> str:
    inside = f"-n {namespace}" if namespace else ""
    return str(json.loads(vm.run(f"ip {inside} -j link show {name}").stdout)[0]["address"])


def in_fdb(vm: WarmVM, address: str) -> bool:
    """Whether the card has it: the bridge's own entries for this port have a master."""
    lines = vm.run(f"bridge fdb show dev {netdev(vm, PF)}").stdout.splitlines()
    return any(address in line and "self" in line for line in lines)


def bridged(vm: WarmVM) -> dict[str, str]:
    """The PF in vmbr0; each guest's and the host's address."""
    vm.run(BRIDGE.format(pf=netdev(vm, PF)))
    return {"host": "192.168.10.1", "virtio": "192.168.10.20", "vf": "192.168.10.10"}


def test_a_vf_guest_and_a_bridge_guest_exchange_20_mb_each_way(vm: WarmVM) -> None:
    addresses = bridged(vm)
    transfer(vm, "host", "virtio", addresses["host"], 1, 20)
    for address in (mac(vm, "vmbr0"), mac(vm, "eth0", namespace="virtio")):
        vm.wait_for(lambda address=address: in_fdb(vm, address), 30)  # type: ignore[misc]
    for listener, sender in (("virtio", "vf"), ("vf", "virtio"), ("host", "vf"), ("vf", "host")):
        assert transfer(vm, listener, sender, addresses[listener], 20, 60) == "20"


def test_without_fdb_entries_the_bridge_guest_is_not_reached(vm: WarmVM) -> None:
    policy(vm, NO_FDB)
    addresses = bridged(vm)
    assert transfer(vm, "virtio", "vf", addresses["virtio"], 20, 15) != "20"
    assert not in_fdb(vm, mac(vm, "eth0", namespace="virtio"))
    policy(vm, PLAIN)
    vm.wait_for(lambda: in_fdb(vm, mac(vm, "eth0", namespace="virtio")), 30)
    assert transfer(vm, "virtio", "vf", addresses["virtio"], 20, 60) == "20"


def answers(vm: WarmVM) -> bool:
    """Whether the other host reaches this one in VLAN 10, through the VLAN interface on the master.

    Linux also answers for an address on another interface, if that has the MAC: a bond's port has it.
    """
    before = received(vm)
    done = vm.run("ip netns exec peer busybox ping -c 2 -W 2 10.10.0.1", check=False)
    return done.returncode == 0 and received(vm) > before


def answers_at_last(vm: WarmVM) -> bool:
    """After the PF was down, which a bond wants, igb has reset the peer's VF, and drops what it sends until its driver
    has reset it, too: "Reload the VF driver to resume operations" (igb_set_vf_multicasts, igb_set_vf_vlan_msg)."""
    if answers(vm):
        return True
    vm.run("ip -n peer link set eth0 down; ip -n peer link set eth0 up")
    return False


def received(vm: WarmVM) -> int:
    [link] = json.loads(vm.run("ip -j -s link show host10").stdout)
    return int(link["stats64"]["rx"]["packets"])


def reported(vm: WarmVM) -> str:
    """What is not done, with the reasons."""
    pf = status(vm)[PF]
    return str((pf["deferred"], pf["problems"]))


@pytest.mark.parametrize(("name", "build"), MASTERS.values(), ids=MASTERS)
def test_a_vlan_interface_takes_no_vlan_from_the_pfs_master(vm: WarmVM, name: str, build: str) -> None:
    vm.run((build + ADMINISTERED).format(pf=netdev(vm, PF)))
    vm.wait_for(lambda: answers_at_last(vm), 60)
    policy(vm, PLAIN + VLAN)
    vm.wait_for(lambda: name in reported(vm), 30)
    vm.run("sleep 12")  # a resync, and a retry
    assert vm.run("ip link show vlan10", check=False).returncode != 0
    assert answers(vm)
    assert vm.run("vfagent plan", check=False).returncode == 3
    vm.run(f"ip link add link {netdev(vm, PF)} name byhand type vlan id 10 && ip link set byhand up")
    assert not answers(vm)  # what the rule would have done


@pytest.mark.parametrize(("name", "build"), MASTERS.values(), ids=MASTERS)
def test_the_vlan_interface_follows_when_the_pf_leaves_its_master(vm: WarmVM, name: str, build: str) -> None:
    vm.run(build.format(pf=netdev(vm, PF)))
    policy(vm, PLAIN + VLAN)
    vm.wait_for(lambda: name in reported(vm), 30)
    assert vm.run("ip link show vlan10", check=False).returncode != 0
    vm.run(f"ip link set {netdev(vm, PF)} nomaster")
    vm.wait_for("ip link show vlan10 | grep -q UP", 30)
    settled(vm)


@pytest.mark.parametrize(("name", "build"), MASTERS.values(), ids=MASTERS)
def test_a_pf_whose_master_administers_the_host_keeps_its_vf_count(vm: WarmVM, name: str, build: str) -> None:
    vm.run((build + ADMINISTERED).format(pf=netdev(vm, PF)))
    vm.wait_for(lambda: answers_at_last(vm), 60)
    policy(vm, PLAIN.replace("vfs = 2", "vfs = 3"))
    vm.wait_for(lambda: "create 3 VFs" in reported(vm), 30)
    vm.run("ip netns del peer")  # until then its VF defers the change, too
    vm.wait_for(lambda: "create 3 VFs" in reported(vm) and "network namespace" not in reported(vm), 30)
    assert "host10, which carries the default route" in reported(vm)
    assert len(vfs(vm, PF)) == 2
    assert name in vm.run(f"ip link show {netdev(vm, PF)}").stdout
    policy(vm, PLAIN)
    vm.run(PEER)
    vm.wait_for(lambda: answers_at_last(vm), 60)
