# SPDX-License-Identifier: Apache-2.0
"""VFs in use by other programs than a guest of vfagent: nothing takes them, and the change follows their release."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.lab.facts import SYSFS, journal, now, vfs
from tests.lab.install import vfagent_tree
from tests.lab.module import kernel_module, left_out_module
from tests.lab.nic import Igb, NvmePf, VirtioPf
from tests.lab.nvme_vf import NVME_VF
from tests.lab.packages import packages_tree
from tests.lab.payload import Entry
from tests.lab.vf_user import VF_USER
from tests.lab.vm import VM

IGB, VIRTIO, NVME = "0000:01:00.0", "0000:02:00.0", "0000:03:00.0"
CARDS = (Igb("igb0"), VirtioPf("virtio0"), NvmePf("nvme0", namespaces=2))
VARIANT = "igbvf_vfio_pci"
# A file system that is unmounted makes no uevent: the resync finds it.
AGENT = """
[agent]
resync = "10s"
"""
RULE = """
[[pf]]
name = "{name}"
match = {{ pci = "{pf}" }}
vfs = {count}

[[pf.vf]]
driver = "{driver}"
"""
# What has the cards' VFs at first.
DRIVERS = {IGB: VARIANT, VIRTIO: "vp-vdpa", NVME: "nvme"}
NAMES = {IGB: "nic", VIRTIO: "vdpa", NVME: "disks"}
HOST_DRIVERS = ("nvme", "igbvf")
MODULES = f"""
set -e
modprobe -a vfio_pci_core vfio_pci vdpa virtio_pci_modern_dev dm_mod
insmod /usr/lib/{VARIANT}.ko
insmod /usr/lib/vp_vdpa.ko
"""
# As an administrator makes NVMe VFs with a disk each, before vfagent starts: it finds two VFs, and keeps them.
DISKS = f"""
set -e
systemctl stop vfagent
cd {SYSFS}/{NVME}
echo 0 >sriov_numvfs
echo 0 >sriov_drivers_autoprobe
echo 2 >sriov_numvfs
python3 /usr/lib/nvme_vf.py {NVME} 1 2
echo 1 >sriov_drivers_autoprobe
for vf in virtfn0 virtfn1; do basename $(readlink $vf) >/sys/bus/pci/drivers_probe; done
"""


@dataclass(frozen=True, slots=True)
class User:
    """Someone who uses vf0 of a PF: commands in which VF stands for its address and DISK for its block device."""

    pf: str
    take: str
    release: str
    holds: str  # succeeds for as long as the user has what it took
    words: str  # what the deferred step says of it
    driver: str = ""  # which has the VF, if it is not that of DRIVERS

    @property
    def drivers(self) -> dict[str, str]:
        return DRIVERS | ({self.pf: self.driver} if self.driver else {})


USERS = {
    "variant driver held open": User(
        IGB,
        "systemd-run --quiet --unit=vf-user python3 /usr/lib/vf_user.py VF"
        f" && until grep -q 1 {SYSFS}/VF/enable; do sleep 0.2; done",
        "systemctl stop vf-user",
        "systemctl is-active vf-user",
        VARIANT,
    ),
    "netdev in a namespace": User(
        IGB,
        f"ip netns add away && ip link set $(ls {SYSFS}/VF/net) netns away name eth0",
        "ip netns del away",
        "ip -n away link show eth0",
        "another network namespace",
        "igbvf",
    ),
    "vdpa device": User(
        VIRTIO,
        "vdpa dev add name vdpa0 mgmtdev pci/VF",
        "vdpa dev del vdpa0",
        "vdpa dev show vdpa0",
        "vdpa0",
    ),
    "mounted file system": User(
        NVME,
        "mkdir -p /srv && busybox mke2fs DISK && mount -t ext4 DISK /srv && echo kept >/srv/file",
        "umount /srv",
        "echo 3 >/proc/sys/vm/drop_caches; grep -q kept /srv/file",
        "mounted at /srv",
    ),
    "swap": User(NVME, "mkswap DISK && swapon DISK", "swapoff -a", "grep -q DISK /proc/swaps", "swap"),
    "device mapper": User(
        NVME,
        "dmsetup create kept --table '0 1024 linear DISK 0'",
        "dmsetup remove kept",
        "dd if=/dev/mapper/kept of=/dev/null iflag=direct bs=4096 count=1",
        "dm-0",
    ),
}


@pytest.fixture(scope="module")
def vm(boot_module: Callable[..., VM]) -> VM:
    machine = boot_module(CARDS, payload())
    assert machine.wait_boot() == "running"
    machine.run(MODULES)
    machine.wait_for(f"ls {SYSFS}/{NVME}/nvme/nvme0", 30)  # its driver's probe is asynchronous
    machine.run(DISKS)
    return machine


def payload() -> dict[str, Entry]:
    modules = {
        VARIANT: kernel_module(VARIANT, "variant", "trixie"),
        "vp_vdpa": left_out_module("vp_vdpa", "drivers/vdpa/virtio_pci", "trixie"),
    }
    extra = {f"/usr/lib/{name}.ko": Entry(data) for name, data in modules.items()}
    extra |= {"/usr/lib/vf_user.py": Entry(VF_USER), "/usr/lib/nvme_vf.py": Entry(NVME_VF)}
    return vfagent_tree(policy(DRIVERS), packages_tree("dmsetup") | extra, enabled=False)


@pytest.fixture(params=tuple(USERS.values()), ids=tuple(USERS))
def user(vm: VM, request: pytest.FixtureRequest) -> Iterator[User]:
    """Its PF has two idle VFs at first, and no user at the end."""
    user: User = request.param
    vm.put("/etc/vfagent/policy.toml", policy(user.drivers).encode())
    vm.run(DISKS if user.pf == NVME else "true", timeout=120)
    vm.run("systemctl reload-or-restart vfagent", timeout=120)
    wait_for_drivers(vm, user.pf, [user.drivers[user.pf]] * 2)
    yield user
    vm.run(words(vm, user, user.release), check=False)


def words(vm: VM, user: User, command: str) -> str:
    vf = vfs(vm, user.pf)[0].address
    return command.replace("VF", vf).replace("DISK", disk(vm, vf) if "DISK" in command else "")


def disk(vm: VM, vf: str) -> str:
    """The multipath block device of the VF's namespace. Its path, below the VF, is hidden."""
    path = vm.run(f"until ls -d {SYSFS}/{vf}/nvme/nvme*/nvme*c*n*; do sleep 0.3; done").stdout.split("/")[-1].strip()
    return "/dev/" + re.sub(r"c\d+", "", path)


def wait_for_drivers(vm: VM, pf: str, drivers: list[str], timeout: float = 60) -> None:
    vm.wait_for(lambda: [vf.driver for vf in vfs(vm, pf)] == drivers, timeout)
    vm.wait_for(lambda: observed(vm, pf)["phase"] == "converged", 20)


def observed(vm: VM, pf: str) -> dict[str, object]:
    """The PF's status from the file: the command takes seconds in an emulated host."""
    pfs = json.loads(vm.get("/run/vfagent/status.json"))["pfs"]
    return next((facts for facts in pfs if facts["address"] == pf), {"phase": "absent"})


def policy(drivers: dict[str, str], counts: dict[str, int] | None = None) -> str:
    """A rule for each card, with two VFs or with this count."""
    text = AGENT
    for pf, driver in drivers.items():
        key, count = "host" if driver in HOST_DRIVERS else driver, (counts or {}).get(pf, 2)
        text += RULE.format(name=NAMES[pf], pf=pf, count=count, driver=key)
    return text


def reload_with(vm: VM, text: str) -> None:
    vm.put("/etc/vfagent/policy.toml", text.encode())
    vm.run("systemctl reload vfagent.service")


# With a count, too, since new NVMe VFs have no queues: the host's driver would wait for them in vain.
@pytest.mark.parametrize("count", [3, 2], ids=["count", "driver"])
def test_a_change_waits_for_the_user_of_a_vf(vm: VM, user: User, count: int) -> None:
    before = vfs(vm, user.pf)
    take, holds, release = (words(vm, user, text) for text in (user.take, user.holds, user.release))
    vm.run(take)
    reload_with(vm, policy(user.drivers | {user.pf: "vfio-pci"}, {user.pf: count}))
    vm.wait_for(lambda: observed(vm, user.pf)["phase"] == "deferred", 30)
    deferred = str(observed(vm, user.pf)["deferred"])
    assert "vf0: " in deferred
    assert user.words in deferred
    assert "vf1: " not in deferred
    assert vfs(vm, user.pf)[0] == before[0]
    assert vm.run("vfagent plan", check=False).returncode == 3
    vm.run(holds)
    vm.run(release)
    wait_for_drivers(vm, user.pf, ["vfio-pci"] * count)


@pytest.fixture
def idle(vm: VM) -> None:
    """The cards as the policy says, without users."""
    vm.put("/etc/vfagent/policy.toml", policy(DRIVERS).encode())
    vm.run(DISKS, timeout=120)
    vm.run("systemctl reload-or-restart vfagent", timeout=120)
    for pf, driver in DRIVERS.items():
        wait_for_drivers(vm, pf, [driver] * 2)


@pytest.mark.usefixtures("idle")
def test_an_unplugged_card_leaves_when_the_variant_drivers_user_closes_it(vm: VM) -> None:
    """The kernel waits for the user; the other cards are managed meanwhile."""
    user, card = USERS["variant driver held open"], CARDS[0]
    vm.run(words(vm, user, user.take))
    vm.request(card)
    vm.wait_for("dmesg | grep -q 'blocked until released by user'", 40)
    other = vfs(vm, VIRTIO)[1].address
    vm.run(f"echo {other} >/sys/bus/pci/drivers/vp-vdpa/unbind")
    wait_for_drivers(vm, VIRTIO, [DRIVERS[VIRTIO]] * 2)
    assert vm.run("systemctl is-active vf-user").stdout == "active\n"
    vm.run("systemctl stop vf-user")
    vm.wait_unplugged(card)
    vm.wait_for(lambda: observed(vm, IGB)["phase"] == "absent", 30)
    vm.hotplug(card)
    wait_for_drivers(vm, IGB, [VARIANT] * 2)


@pytest.mark.usefixtures("idle")
def test_an_nvme_card_unplugged_under_a_mounted_file_system_is_gone(vm: VM) -> None:
    """Nothing can keep it. The service goes on, and reports no PF that is no more."""
    user, before = USERS["mounted file system"], now(vm)
    vm.run(words(vm, user, user.take))
    vm.unplug(CARDS[2])
    vm.wait_for(lambda: observed(vm, NVME)["phase"] == "absent", 30)
    vm.run("umount -l /srv")
    assert vm.run("systemctl show --value --property NRestarts vfagent").stdout == "0\n"
    assert f"PF {NVME}: gone" in journal(vm, before)
