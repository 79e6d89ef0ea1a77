# SPDX-License-Identifier: Apache-2.0
"""Cards that differ: drivers without per-VF settings, a PF that is no NIC, host-bound VFs, netdevsim, hwmode."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.facts import SYSFS, journal, netdev, status, vfs
from tests.lab.install import vfagent_tree
from tests.lab.nic import Igb, NvmePf, VirtioPf
from tests.lab.payload import Entry
from tests.lab.vm import VM

IGB, VIRTIO, NVME = "0000:01:00.0", "0000:02:00.0", "0000:03:00.0"
POLICY = """
[[pf]]
name = "mixed"
match = { driver = "igb" }
vfs = 3

[[pf.vf]]
index = "0"
driver = "vfio-pci"
max_tx_rate = 500

[[pf.vf]]
index = "1"
driver = "host"
mac = "52:54:00:bb:00:01"

[[pf.vf]]
index = "2"
driver = "none"

[[pf]]
name = "virtio"
match = { vendor = "1af4" }
vfs = "max"

[[pf.vf]]
index = "*"
driver = "vfio-pci"
mac = "stable"
vlan = 10
spoof_check = true
trust = true
link_state = "enable"
max_tx_rate = 1000
optional = ["mac", "vlan", "spoof_check"]

[[pf]]
name = "disks"
match = { driver = "nvme" }
vfs = "50%"

[[pf.vf]]
index = "*"
driver = "vfio-pci"
"""
ADAPTER = Path(__file__).with_name("adapter_netdevsim.py")
SWITCHDEV = Path(__file__).with_name("adapter_switchdev.py")


@pytest.fixture(scope="module")
def vm(boot_module: Callable[..., VM]) -> VM:
    extra = {"/usr/lib/adapter.py": Entry(ADAPTER.read_bytes()), "/usr/lib/switchdev.py": Entry(SWITCHDEV.read_bytes())}
    machine = boot_module([Igb("igb0"), VirtioPf("virtio0"), NvmePf("nvme0")], vfagent_tree(POLICY, extra))
    assert machine.wait_boot() == "running"
    return machine


def test_each_attribute_that_virtio_lacks_is_noted_once(vm: VM) -> None:
    pf = status(vm)[VIRTIO]
    assert pf["phase"] == "converged"
    assert [vf.driver for vf in vfs(vm, VIRTIO)] == ["vfio-pci"] * 4
    missing = ("link_state", "mac", "rate", "spoof_check", "trust", "vlan")
    assert pf["notes"] == [f"{name} is not supported by virtio-pci" for name in missing]
    assert [journal(vm).count(f"{name} is not supported by virtio-pci") for name in missing] == [1] * 6


def test_a_pf_that_is_no_nic_gets_its_vfs(vm: VM) -> None:
    assert status(vm)[NVME]["phase"] == "converged"
    assert [vf.driver for vf in vfs(vm, NVME)] == ["vfio-pci"] * 2


def test_each_vf_gets_the_driver_of_its_rule(vm: VM) -> None:
    vm.wait_for(lambda: status(vm)[IGB]["phase"] == "converged", 30)
    assert [vf.driver for vf in vfs(vm, IGB)] == ["vfio-pci", "igbvf", ""]


def test_a_host_vf_has_the_mac_of_the_policy_from_its_start(vm: VM) -> None:
    address = vfs(vm, IGB)[1].address
    assert vm.run(f"cat {SYSFS}/{address}/net/*/address").stdout == "52:54:00:bb:00:01\n"


def test_a_rate_is_set_once_there_is_a_link(vm: VM) -> None:
    assert "max_tx_rate 500Mbps" in vm.run(f"ip link show {netdev(vm, IGB)}").stdout


def test_a_host_vf_that_is_up_defers_changes_of_its_pf(vm: VM) -> None:
    before = vfs(vm, IGB)
    vm.run(f"ip link set $(ls {SYSFS}/{before[1].address}/net) up")
    vm.put("/etc/vfagent/policy.toml", POLICY.replace("vfs = 3", "vfs = 4").encode())
    vm.run("systemctl reload vfagent.service")
    vm.wait_for(lambda: status(vm)[IGB]["phase"] == "deferred", 20)
    assert "is up" in str(status(vm)[IGB]["deferred"])
    assert vfs(vm, IGB) == before
    vm.run(f"ip link set $(ls {SYSFS}/{before[1].address}/net) down")
    vm.wait_for(lambda: len(vfs(vm, IGB)) == 4, 40)


@pytest.mark.parametrize("count", [64, 200])
def test_every_attribute_is_set_and_read_back_on_netdevsim(vm: VM, count: int) -> None:
    done = vm.run(f"modprobe netdevsim && python3 /usr/lib/adapter.py {count}", timeout=120)
    assert f"{count} VFs set and read back" in done.stdout


@pytest.mark.long
def test_two_eswitches_of_64_vfs_change_to_switchdev_and_back(vm: VM) -> None:
    done = vm.run("modprobe netdevsim && python3 /usr/lib/switchdev.py 64", timeout=120)
    assert done.stdout == "representors: 64 64\n"


@pytest.mark.parametrize("mode", ["vepa", "veb"])
def test_hwmode_is_observed(vm: VM, mode: str) -> None:
    vm.run(f"modprobe hwmode; bridge link set dev hwmode0 hwmode {mode}")
    program = (
        "from vfagent.kernel.rtnl import KernelRtnl; "
        "print(KernelRtnl().hwmode(int(open('/sys/class/net/hwmode0/ifindex').read())))"
    )
    assert vm.run(f'python3 -c "{program}"').stdout == f"{mode}\n"
