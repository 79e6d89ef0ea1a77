# SPDX-License-Identifier: Apache-2.0
"""A PF that is a port of a bridge: VFs reach the host and the guests behind the bridge.

The guests are network namespaces: one has a VF's netdev, the other a port of the bridge. The card's own switch carries
what they send to each other, as between two VMs, at a speed that a guest in an emulated host would not have.
"""

import json
from collections.abc import Callable, Iterator

import pytest

from tests.lab.facts import SYSFS, netdev, status
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
driver = "host"
"""
NO_FDB = PLAIN.replace("vfs = 2", 'vfs = 2\nfdb = "off"')
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
# Netdevs of PCI devices come back from a namespace that is removed, a moment later.
REMOVED = f"""
ip netns del vf; ip netns del virtio; ip link del vmbr0
ip link set {{pf}} up
until ls {SYSFS}/{PF}/virtfn0/net/*; do sleep 0.3; done
"""


@pytest.fixture(scope="module")
def vm(warm_module: Callable[..., WarmVM]) -> WarmVM:
    machine = warm_module([Igb("igb0")], payload())
    machine.run("modprobe bridge")
    machine.wait_for(lambda: netdev(machine, PF).startswith("en"), 30)  # named by udev
    machine.run("systemctl start vfagent", timeout=120)
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
