# SPDX-License-Identifier: Apache-2.0
"""NetworkManager and systemd-networkd, each five minutes beside vfagent on one card: neither changes the other's."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.lab.facts import journal, netdev, now, status, vfs
from tests.lab.install import vfagent_tree
from tests.lab.networkmanager import networkmanager_tree
from tests.lab.nic import Igb
from tests.lab.payload import Content
from tests.lab.vm import VM
from tests.lab.warm import WarmVM

pytestmark = pytest.mark.long
PF, LATE = "0000:01:00.0", "0000:02:00.0"
MINUTES = 5
POLICY = """
[[pf]]
name = "net"
match = { driver = "igb" }
vfs = 4
mtu = 1600

[[pf.vf]]
index = "0-1"
driver = "vfio-pci"
mac = "stable"
vlan = 10

[[pf.vf]]
index = "*"
driver = "host"
vlan = 20
"""
# The VLAN interface has its own rule: a second card of the same kind could not have one with the same name.
WITH_VLAN = f"""
[[pf]]
name = "with-vlan"
match = {{ pci = "{PF}" }}
vfs = 4
mtu = 1600
""" + POLICY.partition("mtu = 1600\n")[2]
WITH_VLAN += """
[[pf.vlan]]
id = 30
name = "vlan30"
bridge = "virbr0"
addresses = ["192.168.30.1/24"]

[[bridge]]
name = "virbr0"
"""
# A common configuration: every NIC gets DHCP.
EVERY_NIC = b"[Match]\nDriver=igb igbvf bridge\n[Network]\nDHCP=yes\nLinkLocalAddressing=ipv6\n"
OTHERS = {"networkd": "systemd-networkd.service", "networkmanager": "NetworkManager.service"}


@pytest.fixture(scope="module")
def vm(warm_module: Callable[..., WarmVM]) -> WarmVM:
    extra: dict[str, Content] = {**networkmanager_tree(), "/etc/systemd/network/80-nics.network": EVERY_NIC}
    machine = warm_module([Igb("igb0")], vfagent_tree(WITH_VLAN + POLICY, extra))
    machine.run("systemctl start vfagent.service", timeout=120)
    machine.wait_for(lambda: status(machine)[PF]["phase"] == "converged", 60)
    return machine


@contextmanager
def _running(vm: VM, unit: str) -> Iterator[None]:
    vm.run(f"systemctl start {unit}", timeout=120)
    try:
        yield
    finally:
        vm.run(f"systemctl stop systemd-networkd.socket {unit} 2>/dev/null; true", timeout=60)


def _held(vm: VM) -> tuple[object, ...]:
    links = vm.run("ip -br link show type vlan; ip -br link show type bridge; ip -br -4 address show virbr0").stdout
    mtu = vm.run(f"cat /sys/class/net/{netdev(vm, PF)}/mtu /sys/class/net/vlan30/mtu").stdout
    return vfs(vm, PF), [line.split()[0] for line in links.splitlines()], mtu, "192.168.30.1/24" in links


@pytest.mark.parametrize("other", OTHERS)
def test_neither_manager_touches_what_the_other_set_for_five_minutes(vm: WarmVM, other: str) -> None:
    """Including a card that is plugged in meanwhile."""
    before, since = _held(vm), now(vm)
    card = Igb(f"late-{other}")
    with _running(vm, OTHERS[other]):
        vm.run("sleep 60", timeout=90)
        vm.hotplug(card)
        vm.wait_for(lambda: LATE in status(vm) and status(vm)[LATE]["phase"] == "converged", 60)
        late = vfs(vm, LATE)
        vm.run(f"sleep {(MINUTES - 1) * 60}", timeout=MINUTES * 60)
        log = journal(vm, since)
        assert "drift" not in log, log
        assert (_held(vm), vfs(vm, LATE)) == (before, late)
        assert [vf.driver for vf in late] == ["vfio-pci", "vfio-pci", "igbvf", "igbvf"]
        assert _not_left_alone(vm, other) == set()
    vm.unplug(card)


def _not_left_alone(vm: VM, other: str) -> set[str]:
    """vfagent's links that the other program manages too."""
    if other == "networkd":
        shown = vm.run("networkctl list --no-legend --no-pager").stdout.splitlines()
        managed = {words[1] for line in shown if (words := line.split()) and words[-1] != "unmanaged"}
    else:
        shown = vm.run("nmcli -t -f DEVICE,STATE device").stdout.splitlines()
        managed = {line.split(":")[0] for line in shown if not line.endswith(":unmanaged")}
    own = vm.run("cd /sys/class/net; ls -d */device/physfn 2>/dev/null; grep -lx vfagent */ifalias; true").stdout
    return managed & {line.partition("/")[0] for line in own.splitlines()}
