# SPDX-License-Identifier: Apache-2.0
"""A router advertises a default route and a prefix on the PF's network: who takes them, and who not."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.facts import SYSFS, journal, netdev, now, status, vfs
from tests.lab.install import vfagent_tree
from tests.lab.networkmanager import networkmanager_tree
from tests.lab.nic import Igb
from tests.lab.payload import Content
from tests.lab.vm import VM
from tests.lab.warm import WarmVM
from tests.rules.commands import command_of

ROUTER = Path(__file__).parents[1] / "host/router.py"
PF, SECOND = "0000:01:00.0", "0000:02:00.0"
PREFIX = "2001:db8:5:1::"
# Without VLAN interfaces: the emulated 82576 that has VFs passes to its PF no tagged multicast, and none at all while
# the PF is promiscuous, as a bridge makes it. tests/host/test_autoconf.py has bridges.
POLICY = f"""
[[pf]]
name = "tenants"
match = {{ pci = "{PF}" }}
vfs = 2
"""
# The second card is the router: all cards are on one wire.
PLUG_ROUTER = """
set -e
ip netns add router
ip link set {netdev} netns router name eth0
ip -n router link set eth0 up
systemd-run --quiet ip netns exec router python3 /usr/lib/router.py eth0 {prefix}
"""
EVERY_NIC = b"[Match]\nDriver=igb\n[Network]\nDHCP=ipv4\n"


@pytest.fixture(scope="module")
def vm(warm_module: Callable[..., WarmVM]) -> WarmVM:
    extra: dict[str, Content] = {**networkmanager_tree(), "/usr/lib/router.py": ROUTER.read_bytes()}
    machine = warm_module([Igb("igb0"), Igb("igb1")], vfagent_tree(POLICY, extra))
    machine.wait_for(lambda: netdev(machine, PF) and netdev(machine, SECOND), 60)
    machine.run(PLUG_ROUTER.format(netdev=netdev(machine, SECOND), prefix=PREFIX))
    machine.run("systemctl start vfagent.service", timeout=120)
    return machine


def converged(vm: VM) -> None:
    vm.wait_for(lambda: status(vm)[PF]["phase"] == "converged", 60)
    vm.wait_for(f"ip link show {netdev(vm, PF)} | grep -q LOWER_UP", 30)


def fresh(vm: VM) -> str:
    """The card as at a boot: its driver is bound again, and the kernel's values of the netdev are new. The time."""
    vm.wait_for(lambda: not vm.run(f"echo {PF} >{SYSFS}/{PF}/driver/unbind", check=False).returncode, 30)
    since = now(vm)
    vm.run(f"echo {PF} >/sys/bus/pci/drivers/igb/bind", timeout=90)
    vm.wait_for(lambda: netdev(vm, PF), 30)
    return since


def taken(vm: VM, name: str) -> list[str]:
    """IPv6 addresses of any scope, and routes that a router advertised."""
    shown = json.loads(vm.run(f"ip -j -6 addr show dev {name}").stdout)
    routes = json.loads(vm.run(f"ip -j -6 route show dev {name} proto ra").stdout)
    addresses = [address["local"] for each in shown for address in each.get("addr_info", ())]
    return [*addresses, *(route["dst"] for route in routes)]


def advertisements(vm: VM) -> int:
    """How many reached the PF."""
    lines = vm.run(f"cat /proc/net/dev_snmp6/{netdev(vm, PF)}").stdout.splitlines()
    counters = dict(line.split() for line in lines)
    return int(counters["Icmp6InRouterAdvertisements"])


def takes_nothing(vm: VM) -> None:
    converged(vm)
    before = advertisements(vm)
    vm.wait_for(lambda: advertisements(vm) >= before + 3, 60)
    assert taken(vm, netdev(vm, PF)) == []


@contextmanager
def running(vm: VM, unit: str) -> Iterator[None]:
    vm.run(f"systemctl enable --now {unit} 2>&1", timeout=120)
    try:
        yield
    finally:
        vm.run(f"systemctl disable --now systemd-networkd.socket {unit} 2>&1; rm -rf /run/NetworkManager", timeout=90)


def kept_out(vm: VM, since: str) -> bool:
    return f"keep {netdev(vm, PF)} out of IPv6 autoconfiguration" in journal(vm, since)


def test_what_vfagent_sets_up_takes_nothing_and_is_no_management(vm: WarmVM) -> None:
    takes_nothing(vm)
    vm.put("/etc/vfagent/policy.toml", POLICY.replace("vfs = 2", "vfs = 3").encode())
    vm.run("systemctl reload vfagent.service", timeout=90)
    vm.wait_for(lambda: len(vfs(vm, PF)) == 3, 60)
    takes_nothing(vm)


def test_a_released_pf_takes_what_the_router_advertises(vm: WarmVM) -> None:
    vm.run(f"vfagent release {PF}", timeout=90)
    name = netdev(vm, PF)
    vm.run(f"ip link set {name} up")
    vm.wait_for(lambda: "default" in taken(vm, name), 30)
    vm.run(f"ip link set {name} down")
    fresh(vm)
    vm.run("systemctl reload vfagent.service", timeout=90)
    takes_nothing(vm)


def test_networkd_without_a_file_for_the_pf_leaves_it_alone(vm: WarmVM) -> None:
    with running(vm, "systemd-networkd.service"):
        since = fresh(vm)
        takes_nothing(vm)
        assert kept_out(vm, since)
        listed = vm.run(f"networkctl list --no-legend --no-pager {netdev(vm, PF)}").stdout
        assert listed.split()[-1] == "unmanaged"


def test_networkd_with_a_file_for_every_nic_configures_the_pf(vm: WarmVM) -> None:
    vm.put("/etc/systemd/network/80-nics.network", EVERY_NIC)
    with running(vm, "systemd-networkd.service"):
        since = fresh(vm)
        vm.wait_for(lambda: any(text.startswith(PREFIX[:-1]) for text in taken(vm, netdev(vm, PF))), 60)
        assert not kept_out(vm, since)
    vm.run("rm /etc/systemd/network/80-nics.network")


def test_network_manager_makes_a_connection_for_every_nic_by_default(vm: WarmVM) -> None:
    with running(vm, "NetworkManager.service"):
        since = fresh(vm)
        vm.wait_for(lambda: any(text.startswith(PREFIX[:-1]) for text in taken(vm, netdev(vm, PF))), 90)
        assert not kept_out(vm, since)
        assert "Wired connection" in vm.run("nmcli -t -f NAME connection show --active").stdout
        page = "docs/beside-others.md"
        for start in ("cat >/etc/NetworkManager/", "nmcli general reload"):
            vm.run(command_of(page, start).replace("ens1f0", netdev(vm, PF)), timeout=90)
        since = fresh(vm)
        takes_nothing(vm)
        assert kept_out(vm, since)
