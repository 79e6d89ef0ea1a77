# SPDX-License-Identifier: Apache-2.0
"""What `doctor` says of faults made for real, on a host where hardly anything is right."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.lab.facts import SYSFS, netdev, vfs
from tests.lab.install import vfagent_tree
from tests.lab.networkmanager import networkmanager_tree
from tests.lab.nic import Igb
from tests.lab.payload import Entry
from tests.lab.vm import VM

pytestmark = pytest.mark.long
PF = "0000:01:00.0"
POLICY = f"""
[[pf]]
name = "storage"
match = {{ pci = "{PF}" }}
vfs = 2

[[pf.vf]]
index = "*"
driver = "vfio-pci"

[[guest]]
name = "cirros"
vfs = ["storage:0"]
memory = "128M"

[guest.ipxe]
address = "192.168.10.10/24"
sanboot = "iscsi:192.168.10.1::::iqn.2016-01.com.example:none"
"""


def doctor(vm: VM) -> tuple[int, list[dict[str, Any]]]:
    """Its exit status, and its findings in their order."""
    done = vm.run("vfagent doctor --json", check=False, timeout=120)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)["findings"]


def checks(vm: VM) -> list[str]:
    return [finding["check"] for finding in doctor(vm)[1]]


def found(vm: VM, check: str) -> dict[str, Any]:
    """The only finding of its kind."""
    (finding,) = [one for one in doctor(vm)[1] if one["check"] == check]
    return finding


@pytest.fixture(scope="module")
def bare(boot_module: Callable[..., VM]) -> VM:
    extra = {"/etc/modprobe.d/hardening.conf": Entry(b"blacklist vfio-pci\n"), **networkmanager_tree()}
    payload = vfagent_tree(POLICY, extra, enabled=False)
    machine = boot_module([Igb("igb0")], payload, extra_kernel="intel_iommu=off")
    machine.wait_boot()
    return machine


def test_all_that_stands_in_the_way_is_told_in_the_order_in_which_to_mend_it(bare: VM) -> None:
    status, findings = doctor(bare)
    assert status == 1
    errors = [finding["check"] for finding in findings if finding["severity"] == "error"]
    assert errors == ["iommu-off", "vfio-absent", "service-down", "qemu-absent", "guest-file-absent"]
    assert "kvm-absent" in [finding["check"] for finding in findings if finding["severity"] == "warning"]
    assert bare.run("ls /sys/kernel/iommu_groups").stdout == ""
    iommu = findings[0]
    assert "the kernel was told so: intel_iommu=off" in iommu["observed"]
    assert "take intel_iommu=off from the kernel's command line" in iommu["advice"]
    assert bare.run("vfagent plan", check=False).returncode == 3


def test_what_is_mended_is_not_told_again(bare: VM) -> None:
    assert "/etc/modprobe.d/hardening.conf forbids it" in found(bare, "vfio-absent")["observed"]
    bare.run("rm /etc/modprobe.d/hardening.conf; modprobe vfio-pci")
    assert "vfio-absent" not in checks(bare)


def test_a_line_of_the_kernels_log_is_explained(bare: VM) -> None:
    bare.run(f"echo 'igb {PF}: not enough MMIO resources for SR-IOV' >/dev/kmsg")
    finding = found(bare, "bar-space")
    assert finding["severity"] == "error"
    assert finding["object"] == f"{PF} ({netdev(bare, PF)})"
    assert "pci=realloc" in finding["advice"]


def test_a_link_file_that_makes_vfs_is_a_second_owner_and_udev_obeys_it(bare: VM) -> None:
    name = netdev(bare, PF)
    bare.put("/etc/systemd/network/10-pf.link", b"[Match]\nDriver=igb\n[Link]\nSR-IOVVirtualFunctions=2\n")
    finding = found(bare, "second-owner")
    assert (finding["severity"], finding["observed"]) == (
        "error",
        "udev makes 2 VFs of it (/etc/systemd/network/10-pf.link)",
    )
    bare.run(f"udevadm control --reload; udevadm trigger --settle --action=add /sys/class/net/{name}")
    assert len(vfs(bare, PF)) == 2
    bare.run(f"rm /etc/systemd/network/10-pf.link; echo 0 >{SYSFS}/{PF}/sriov_numvfs; udevadm settle")


def test_networkmanager_that_owns_the_pf_is_a_second_owner_and_makes_vfs(bare: VM) -> None:
    name = netdev(bare, PF)
    profile = (
        f"[connection]\nid=storage\nuuid=6c1b9b1e-0000-4000-8000-000000000001\ntype=ethernet\ninterface-name={name}\n"
    )
    profile += "[ethernet]\n[ipv4]\nmethod=disabled\n[ipv6]\nmethod=disabled\n[sriov]\ntotal-vfs=3\n"
    path = "/etc/NetworkManager/system-connections/storage.nmconnection"
    bare.put(path, profile.encode(), 0o600)
    bare.run("systemctl start NetworkManager.service", timeout=90)
    bare.wait_for(lambda: len(vfs(bare, PF)) == 3, 60)
    findings = [one for one in doctor(bare)[1] if one["check"] == "second-owner"]
    assert [(one["severity"], one["observed"].partition(" (")[0]) for one in findings] == [
        ("error", "NetworkManager keeps its VFs at 3"),
        ("warning", "NetworkManager manages it"),
    ]
    bare.run(f"rm {path}; nmcli connection reload; nmcli device set {name} managed no")
    bare.wait_for(lambda: "second-owner" not in checks(bare), 20)


def test_without_root_it_says_what_it_did_not_see(bare: VM) -> None:
    done = bare.run("setpriv --reuid=65534 --regid=65534 --clear-groups vfagent doctor", check=False, timeout=90)
    assert done.returncode == 1
    assert "error: IOMMU: is off" in done.stdout
    assert "not checked: kernel log" in done.stdout
    assert done.stdout.endswith("as root it would see more\n")
    assert "Traceback" not in done.stderr
