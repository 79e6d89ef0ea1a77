# SPDX-License-Identifier: Apache-2.0
"""The findings of `doctor` about real faults, on a host with many of them."""

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


def only(vm: VM, check: str) -> dict[str, Any]:
    """The only finding of its kind."""
    (finding,) = [finding for finding in doctor(vm)[1] if finding["check"] == check]
    return finding


@pytest.fixture(scope="module")
def bare(boot_module: Callable[..., VM]) -> VM:
    extra = {"/etc/modprobe.d/hardening.conf": Entry(b"blacklist vfio-pci\n"), **networkmanager_tree()}
    payload = vfagent_tree(POLICY, extra, enabled=False)
    machine = boot_module([Igb("igb0")], payload, extra_kernel="intel_iommu=off")
    machine.wait_boot()
    return machine


def test_errors_are_listed_in_the_order_in_which_to_fix_them(bare: VM) -> None:
    status, findings = doctor(bare)
    assert status == 1
    errors = [finding["check"] for finding in findings if finding["severity"] == "error"]
    assert errors == ["iommu-off", "vfio-absent", "service-down", "qemu-absent", "guest-file-absent"]
    assert "kvm-absent" in [finding["check"] for finding in findings if finding["severity"] == "warning"]
    assert bare.run("ls /sys/kernel/iommu_groups").stdout == ""
    iommu = findings[0]
    assert "the kernel's command line has intel_iommu=off" in iommu["observed"]
    assert "remove intel_iommu=off from it" in iommu["advice"]
    assert bare.run("vfagent plan", check=False).returncode == 3


def test_a_fixed_problem_is_no_longer_reported(bare: VM) -> None:
    assert "/etc/modprobe.d/hardening.conf blocks it" in only(bare, "vfio-absent")["observed"]
    bare.run("rm /etc/modprobe.d/hardening.conf; modprobe vfio-pci")
    assert "vfio-absent" not in checks(bare)


def test_a_known_kernel_log_line_is_explained(bare: VM) -> None:
    bare.run(f"echo 'igb {PF}: not enough MMIO resources for SR-IOV' >/dev/kmsg")
    finding = only(bare, "bar-space")
    assert finding["severity"] == "error"
    assert finding["object"] == f"{PF} ({netdev(bare, PF)})"
    assert "pci=realloc" in finding["advice"]


def test_a_link_file_that_creates_vfs_is_another_manager(bare: VM) -> None:
    name = netdev(bare, PF)
    bare.put("/etc/systemd/network/10-pf.link", b"[Match]\nDriver=igb\n[Link]\nSR-IOVVirtualFunctions=2\n")
    finding = only(bare, "other-manager")
    assert (finding["severity"], finding["observed"]) == (
        "error",
        "udev creates 2 VFs on it (/etc/systemd/network/10-pf.link)",
    )
    bare.run(f"udevadm control --reload; udevadm trigger --settle --action=add /sys/class/net/{name}")
    assert len(vfs(bare, PF)) == 2
    bare.run(f"rm /etc/systemd/network/10-pf.link; echo 0 >{SYSFS}/{PF}/sriov_numvfs; udevadm settle")


def test_networkmanager_that_creates_vfs_is_another_manager(bare: VM) -> None:
    name = netdev(bare, PF)
    profile = (
        f"[connection]\nid=storage\nuuid=6c1b9b1e-0000-4000-8000-000000000001\ntype=ethernet\ninterface-name={name}\n"
    )
    profile += "[ethernet]\n[ipv4]\nmethod=disabled\n[ipv6]\nmethod=disabled\n[sriov]\ntotal-vfs=3\n"
    path = "/etc/NetworkManager/system-connections/storage.nmconnection"
    bare.put(path, profile.encode(), 0o600)
    bare.run("systemctl start NetworkManager.service", timeout=90)
    bare.wait_for(lambda: len(vfs(bare, PF)) == 3, 60)
    findings = [finding for finding in doctor(bare)[1] if finding["check"] == "other-manager"]
    assert [(finding["severity"], finding["observed"].partition(" (")[0]) for finding in findings] == [
        ("error", "NetworkManager sets its VF count to 3"),
        ("warning", "NetworkManager manages it"),
    ]
    bare.run(f"rm {path}; nmcli connection reload; nmcli device set {name} managed no")
    bare.wait_for(lambda: "other-manager" not in checks(bare), 20)


def test_without_root_doctor_lists_what_it_did_not_check(bare: VM) -> None:
    done = bare.run("setpriv --reuid=65534 --regid=65534 --clear-groups vfagent doctor", check=False, timeout=90)
    assert done.returncode == 1
    assert "error: IOMMU: is off" in done.stdout
    assert "not checked: kernel log" in done.stdout
    assert done.stdout.endswith("root can check more\n")
    assert "Traceback" not in done.stderr
