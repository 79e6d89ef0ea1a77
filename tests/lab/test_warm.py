# SPDX-License-Identifier: Apache-2.0
"""VMs that start from a saved state behave like others."""

import time
from collections.abc import Callable

from tests.lab.nic import Igb, VirtioPf
from tests.lab.warm import WarmVM


def test_cards_and_payload_come_after_the_boot(warm: Callable[..., WarmVM]) -> None:
    igb, virtio = Igb("igb0"), VirtioPf("virtio0")
    vm = warm([igb, virtio], {"/etc/lab/file": b"x"})
    assert vm.get("/etc/lab/file") == b"x"
    assert abs(float(vm.run("date +%s").stdout) - time.time()) < 60
    vm.wait_for(f"test -e /sys/bus/pci/devices/{vm.address(igb)}/net")
    vm.wait_for(f"ls /sys/bus/pci/devices/{vm.address(virtio)}/virtio*/net")
    vm.reboot()
    assert vm.get("/etc/lab/file") == b"x"
    vm.wait_for(f"test -e /sys/bus/pci/devices/{vm.address(igb)}/net")


def test_each_vm_starts_from_the_same_state(lab_image: object) -> None:
    boots = []
    for _ in range(2):
        with WarmVM() as vm:
            boots.append(vm.run("cat /proc/sys/kernel/random/boot_id").stdout)
            assert vm.run("test -e /root/left", check=False).returncode == 1
            vm.put("/root/left", b"")
    assert boots[0] == boots[1]
