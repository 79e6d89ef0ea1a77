# SPDX-License-Identifier: Apache-2.0
"""The lab itself, on which the other tests depend."""

import json
from collections.abc import Callable

import pytest

from tests.lab.nic import Igb, NvmePf, VirtioPf
from tests.lab.payload import Entry
from tests.lab.vm import VM

IGB, VIRTIO, NVME = "0000:01:00.0", "0000:02:00.0", "0000:03:00.0"
PAYLOAD = {
    "/etc/lab/file": b"from the payload\n",
    "/etc/lab/program": Entry(b"#!/bin/sh\necho runs\n", 0o755),
    "/etc/lab/link": Entry(target="file"),
    "/usr/lib/systemd/system/lab-early.service": b"[Service]\nType=oneshot\nExecStart=/bin/true\nRemainAfterExit=yes\n",
    "/etc/systemd/system/sysinit.target.wants/lab-early.service": Entry(
        target="/usr/lib/systemd/system/lab-early.service"
    ),
}


@pytest.fixture(scope="module")
def vm(boot_module: Callable[..., VM]) -> VM:
    machine = boot_module([Igb("igb0"), VirtioPf("virtio0"), NvmePf("nvme0")], PAYLOAD)
    assert machine.wait_boot() == "running"
    machine.run("udevadm settle")
    return machine


def create_vfs(vm: VM, pf: str, count: int) -> list[str]:
    """Creates VFs without a driver, and returns their addresses."""
    folder = f"/sys/bus/pci/devices/{pf}"
    vm.run(f"cd {folder}; echo 0 >sriov_drivers_autoprobe; echo 0 >sriov_numvfs; echo {count} >sriov_numvfs")
    links = vm.run(f"for n in $(seq 0 {count - 1}); do readlink {folder}/virtfn$n; done").stdout.split()
    return [link.rpartition("/")[2] for link in links]


def bind_vfio(vm: VM, vf: str) -> str:
    """Binds one VF and names its driver."""
    vm.run(f"modprobe vfio-pci; echo vfio-pci >/sys/bus/pci/devices/{vf}/driver_override")
    vm.run(f"echo {vf} >/sys/bus/pci/drivers_probe")
    return vm.run(f"basename $(readlink /sys/bus/pci/devices/{vf}/driver)").stdout.strip()


def iommu_group(vm: VM, device: str) -> str:
    return vm.run(f"basename $(readlink /sys/bus/pci/devices/{device}/iommu_group)").stdout.strip()


def test_addresses(vm: VM) -> None:
    assert [vm.address(card) for card in vm.cards.values()] == [IGB, VIRTIO, NVME]


def test_the_payload_exists_when_systemd_starts(vm: VM) -> None:
    assert vm.get("/etc/lab/link") == b"from the payload\n"
    assert vm.run("/etc/lab/program").stdout == "runs\n"
    assert vm.run("systemctl is-active lab-early.service").stdout == "active\n"


def test_files_are_copied_in_and_out(vm: VM) -> None:
    vm.put("/tmp/a b/file", b"\x00binary\xff", 0o600)
    assert vm.get("/tmp/a b/file") == b"\x00binary\xff"
    vm.put_tree({"/tmp/tree/one": b"1", "/tmp/tree/two/three": b"3"})
    assert vm.run("cd /tmp/tree; cat one two/three").stdout == "13"


@pytest.mark.parametrize(
    ("pf", "ids", "totalvfs"), [(IGB, "8086:10c9", 7), (VIRTIO, "1af4:1041", 4), (NVME, "1b36:0010", 4)]
)
def test_pfs(vm: VM, pf: str, ids: str, totalvfs: int) -> None:
    assert ids in vm.run(f"lspci -n -s {pf}").stdout
    assert vm.run(f"cat /sys/bus/pci/devices/{pf}/sriov_totalvfs").stdout == f"{totalvfs}\n"


@pytest.mark.parametrize(("pf", "ids"), [(IGB, "8086:10ca"), (VIRTIO, "1af4:1041"), (NVME, "1b36:0010")])
def test_vfs_are_isolated_and_bind_to_vfio(vm: VM, pf: str, ids: str) -> None:
    vfs = create_vfs(vm, pf, 2)
    assert [ids in vm.run(f"lspci -n -s {vf}").stdout for vf in vfs] == [True, True]
    groups = {iommu_group(vm, device) for device in (pf, *vfs)}
    assert len(groups) == 3
    assert [bind_vfio(vm, vf) for vf in vfs] == ["vfio-pci", "vfio-pci"]
    assert vm.run(f"ls /dev/vfio/{iommu_group(vm, vfs[0])}").returncode == 0
    vm.run(f"echo 0 >/sys/bus/pci/devices/{pf}/sriov_numvfs")


def test_the_pf_accepts_vf_settings(vm: VM) -> None:
    create_vfs(vm, IGB, 1)
    netdev = vm.run(f"ls /sys/bus/pci/devices/{IGB}/net").stdout.strip()
    vm.run(f"ip link set {netdev} up; ip link set {netdev} vf 0 mac 52:54:00:bb:00:01 vlan 10")
    [link] = json.loads(vm.run(f"ip -j link show {netdev}").stdout)
    [vf] = link["vfinfo_list"]
    assert vf["address"] == "52:54:00:bb:00:01"
    assert vf["vlan_list"][0]["vlan"] == 10
    vm.wait_for(f"grep -q 1 /sys/class/net/{netdev}/carrier")
    vm.run(f"echo 0 >/sys/bus/pci/devices/{IGB}/sriov_numvfs")


def test_a_card_is_plugged_and_unplugged(vm: VM) -> None:
    card = Igb("igb1")
    pf = vm.hotplug(card)
    vm.wait_for(f"test -e /sys/bus/pci/devices/{pf}/net")
    assert len(create_vfs(vm, pf, 7)) == 7
    vm.unplug(card)
    vm.wait_for(f"test ! -e /sys/bus/pci/devices/{pf}")
    assert vm.hotplug(card) == pf
    vm.wait_for(f"test -e /sys/bus/pci/devices/{pf}/net")
    vm.unplug(card)


def test_netdevsim(vm: VM) -> None:
    vm.run("modprobe netdevsim; echo '1 1' >/sys/bus/netdevsim/new_device; udevadm settle")
    vm.run("echo 3 >/sys/bus/netdevsim/devices/netdevsim1/sriov_numvfs")
    netdev = vm.run("ls /sys/bus/netdevsim/devices/netdevsim1/net").stdout.strip()
    vm.run(f"ip link set {netdev} vf 2 vlan 100 qos 3 proto 802.1ad")
    [link] = json.loads(vm.run(f"ip -j link show {netdev}").stdout)
    assert link["vfinfo_list"][2]["vlan_list"][0] == {"vlan": 100, "qos": 3, "protocol": "802.1ad"}
    vm.run("echo 1 >/sys/bus/netdevsim/del_device; rmmod netdevsim")


def test_hwmode(vm: VM) -> None:
    vm.run("modprobe hwmode")
    assert [hwmode(vm, mode) for mode in ("vepa", "veb")] == ["VEPA", "VEB"]
    vm.run("rmmod hwmode")


def hwmode(vm: VM, mode: str) -> str:
    vm.run(f"bridge link set dev hwmode0 hwmode {mode}")
    [link] = json.loads(vm.run("bridge -j -d link show dev hwmode0").stdout)
    return str(link["hwmode"])


def test_a_virtio_card_is_plugged_into_another_port(vm: VM) -> None:
    card = VirtioPf("virtio1", vfs=2)
    for _ in range(2):
        pf = vm.hotplug(card)
        assert len(create_vfs(vm, pf, 2)) == 2
        vm.unplug(card)
        vm.wait_for(f"test ! -e /sys/bus/pci/devices/{pf}")


def test_reboot_keeps_what_changed(vm: VM) -> None:
    vm.put("/etc/lab/file", b"changed\n")
    before = vm.run("cat /proc/sys/kernel/random/boot_id").stdout
    vm.reboot()
    assert vm.run("cat /proc/sys/kernel/random/boot_id").stdout != before
    assert vm.get("/etc/lab/file") == b"changed\n"


def test_power_off_and_on_keeps_what_changed_and_every_card(vm: VM) -> None:
    vm.put("/etc/lab/file", b"changed\n")
    vm.power_cycle()
    assert float(vm.run("cat /proc/uptime").stdout.split()[0]) < 60
    assert vm.get("/etc/lab/file") == b"changed\n"
    classes = [vm.run(f"lspci -n -s {pf}").stdout.split()[1] for pf in (IGB, VIRTIO, NVME)]
    assert classes == ["0200:", "0200:", "0108:"]
