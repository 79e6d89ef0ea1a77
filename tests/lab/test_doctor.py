# SPDX-License-Identifier: Apache-2.0
"""What `doctor` says of faults made for real: on a host where hardly anything is right, and on one with a few."""

import json
import shlex
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.lab.facts import SYSFS, netdev, vfs
from tests.lab.install import vfagent_tree
from tests.lab.networkmanager import networkmanager_tree
from tests.lab.nic import Igb, NvmePf
from tests.lab.payload import Entry
from tests.lab.vm import VM

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
SHARED = """
[[pf]]
name = "shared"
match = { driver = "igb" }
vfs = 1

[[pf.vf]]
index = "*"
driver = "vfio-pci"

[[pf]]
name = "disks"
match = { driver = "nvme" }
vfs = 1

[[pf.vf]]
index = "*"
driver = "vfio-pci"

[[guest]]
name = "diskless"
vfs = ["disks:0"]
memory = "128M"

[guest.ipxe]
address = "dhcp"
"""
# Two ports of one slot, neither with ACS: what is behind them is one IOMMU group, as the kernel sees it.
_PORT = "pcie-root-port,bus=pcie.0,disable-acs=true"
NO_ACS = (
    *("-device", f"{_PORT},id=near,chassis=40,addr=0x1c.0,multifunction=on"),
    *("-device", f"{_PORT},id=far,chassis=41,addr=0x1c.1"),
    *("-netdev", "user,id=near-wire,restrict=on", "-device", "igb,bus=near,netdev=near-wire,mac=52:54:00:0a:00:01"),
    *("-netdev", "user,id=far-wire,restrict=on", "-device", "igb,bus=far,netdev=far-wire,mac=52:54:00:0a:00:02"),
    # The lab's processor without its virtualization would have no KVM to break.
    *("-cpu", "max"),
)
HOLDER = """
import ctypes, fcntl, os, struct, sys, time
address = sys.argv[1]
group = os.path.basename(os.readlink(f"/sys/bus/pci/devices/{address}/iommu_group"))
container, opened = os.open("/dev/vfio/vfio", os.O_RDWR), os.open(f"/dev/vfio/{group}", os.O_RDWR)
fcntl.ioctl(opened, 0x3B68, struct.pack("i", container))  # VFIO_GROUP_SET_CONTAINER
fcntl.ioctl(container, 0x3B66, 1)  # VFIO_SET_IOMMU, type 1
device = fcntl.ioctl(opened, 0x3B6A, ctypes.create_string_buffer(address.encode() + b"\\0"))  # GET_DEVICE_FD
time.sleep(100000)
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


# A host without IOMMU, vfio-pci, QEMU and KVM


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
    assert "the kernel was told so: intel_iommu=off" in iommu["found"]
    assert "take intel_iommu=off from the kernel's command line" in iommu["advice"]
    assert bare.run("vfagent plan", check=False).returncode == 3


def test_what_is_mended_is_not_told_again(bare: VM) -> None:
    assert "/etc/modprobe.d/hardening.conf forbids it" in found(bare, "vfio-absent")["found"]
    bare.run("rm /etc/modprobe.d/hardening.conf; modprobe vfio-pci")
    assert "vfio-absent" not in checks(bare)
    bare.run("modprobe --remove vfio-pci")
    assert "modprobe vfio-pci" in found(bare, "vfio-absent")["advice"]


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
    assert (finding["severity"], finding["found"]) == (
        "error",
        "udev makes 2 VFs of it (/etc/systemd/network/10-pf.link)",
    )
    bare.run(f"udevadm control --reload; udevadm trigger --settle --action=add /sys/class/net/{name}")
    assert len(vfs(bare, PF)) == 2
    bare.run(f"rm /etc/systemd/network/10-pf.link; echo 0 >{SYSFS}/{PF}/sriov_numvfs; udevadm settle")
    assert "second-owner" not in checks(bare)


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
    assert [(one["severity"], one["found"].partition(" (")[0]) for one in findings] == [
        ("error", "NetworkManager keeps its VFs at 3"),
        ("warning", "NetworkManager manages it"),
    ]
    bare.run(f"rm {path}; nmcli connection reload; nmcli device set {name} managed no")
    bare.wait_for(lambda: "second-owner" not in checks(bare), 20)


def test_without_root_it_says_what_it_did_not_see(bare: VM) -> None:
    done = bare.run("setpriv --reuid=65534 --regid=65534 --clear-groups vfagent doctor", check=False, timeout=90)
    assert done.returncode == 1
    assert "error: IOMMU: is off" in done.stdout
    assert "not seen: kernel log" in done.stdout
    assert done.stdout.endswith("as root it would see more\n")
    assert "Traceback" not in done.stderr


# A host with an IOMMU, QEMU and KVM, and cards that share a group


@pytest.fixture(scope="module")
def shared(boot_module: Callable[..., VM]) -> VM:
    payload = vfagent_tree(SHARED, {"/usr/lib/hold.py": Entry(HOLDER.encode())})
    machine = boot_module([NvmePf("nvme0")], payload, hypervisor=True, extra_qemu=NO_ACS)
    machine.wait_boot()
    return machine


def test_a_group_shared_by_two_cards_is_told_with_who_is_in_it(shared: VM) -> None:
    igbs = shared.run("ls /sys/bus/pci/drivers/igb | grep :").stdout.split()
    assert len(igbs) == 2
    shared.wait_for(lambda: all(len(vfs(shared, pf)) == 1 for pf in igbs), 60)
    groups = {shared.run(f"readlink {SYSFS}/{pf}/iommu_group").stdout for pf in igbs}
    assert len(groups) == 1
    findings = [one for one in doctor(shared)[1] if one["check"] == "group-shared"]
    assert len(findings) == 2
    for pf, finding in zip(igbs, findings, strict=True):
        assert finding["severity"] == "error"
        assert finding["object"].startswith(pf)
        assert all(other in finding["found"] for other in igbs)
        assert [vf.driver for vf in vfs(shared, pf)] == [""]


def test_a_vf_without_a_driver_in_ipxe_keeps_its_guest_from_booting(shared: VM) -> None:
    (vf,) = vfs(shared, PF)
    hardware = shared.run(f"lspci -n -s {vf.address}").stdout.split()[2]
    finding = found(shared, "guest-cannot-boot")
    assert finding["object"] == "guest diskless"
    assert finding["found"] == f"iPXE has no driver for VFs {hardware}: give it a guest.kernel"
    assert finding["found"] in shared.run("vfagent status", check=False).stdout


@pytest.fixture
def kvm(shared: VM) -> Iterator[None]:
    """As udev leaves it."""
    shared.run("modprobe kvm_amd; udevadm settle; rm -f /run/vfagent/kvm.json")
    yield
    shared.run("chmod 660 /dev/kvm; rm -f /run/vfagent/kvm.json")


def test_kvm_that_guests_may_not_open_is_told(shared: VM, kvm: None) -> None:
    shared.run("chmod 600 /dev/kvm")
    finding = found(shared, "kvm-denied")
    assert finding["severity"] == "warning"
    assert "udevadm trigger" in finding["advice"]


def test_kvm_is_tried_and_left_as_it_was(shared: VM, kvm: None) -> None:
    """Emulated processors run KVM's guests slowly, if at all: the answer must be that of the trial itself."""
    told = "kvm-broken" in checks(shared)
    journal = shared.run("journalctl -o cat --no-pager -u vfagent-kvm-probe.service | tail -3").stdout
    assert ("Failed" in journal) is told, journal
    assert "kvm-absent" not in checks(shared)
    assert shared.run("systemctl list-units --all --no-legend vfagent-kvm-probe.service").stdout == ""
    assert shared.run("test -e /run/vfagent/kvm.json", check=False).returncode == 1


def test_the_service_and_its_files_are_in_order_there(shared: VM) -> None:
    assert not {"service-down", "service-absent", "udev-rules-absent", "iommu-off", "vfio-absent"} & set(checks(shared))


def test_while_the_kernel_waits_for_a_guest_doctor_does_not(shared: VM) -> None:
    (vf,) = vfs(shared, PF)
    shared.run("systemctl stop vfagent.service")
    shared.run(f"systemd-run --quiet --unit=holder python3 /usr/lib/hold.py {vf.address}")
    shared.wait_for(f"grep -q 1 {SYSFS}/{vf.address}/enable")
    remove = shlex.quote(f"echo 0 >{SYSFS}/{PF}/sriov_numvfs")
    shared.run(f"systemd-run --quiet --unit=remover sh -c {remove}")
    shared.wait_for("systemctl is-active --quiet remover && ! test -e " + f"{SYSFS}/{vf.address}/driver")
    started = time.monotonic()
    assert "service-down" in checks(shared)
    assert time.monotonic() - started < 60
    shared.run("systemctl stop holder.service")
    shared.wait_for("! systemctl is-active --quiet remover", 60)
