# SPDX-License-Identifier: Apache-2.0
"""A Linux guest on a VF of an 82576, with its root on an iSCSI disk, with the VLAN and the MAC that the PF has set."""

from collections.abc import Callable

import pytest

from tests.lab.facts import vfs
from tests.lab.guest_facts import phase, wait_printed
from tests.lab.install import vfagent_tree
from tests.lab.linux_guest import MARK, linux_guest
from tests.lab.nic import Igb
from tests.lab.payload import Content, Entry
from tests.lab.target import IQN, Target
from tests.lab.vm import VM

PF = "0000:01:00.0"
MAC = "52:54:00:bb:00:00"
USER, SECRET = "linux", "open-sesame-12"
# The kernel's self-tests take half the boot of an emulated guest on an emulated host (see initcall_debug).
SELF_TESTS = (
    "crypto_kdf108_init",
    "jent_mod_init",
    "init_encrypted",
    "load_system_certificate_list",
    "bpf_tcp_ca_kfunc_init",
    "bpf_dummy_struct_ops_init",
)
CMDLINE = (
    "console=ttyS0 root=/dev/sda rootfstype=ext4 ro fastboot loglevel=5 no_timer_check mitigations=off nokaslr"
    f" ipv6.disable=1 cryptomgr.notests initcall_blacklist={','.join(SELF_TESTS)}"
)
POLICY = f"""
[[pf]]
name = "storage"
match = {{ driver = "igb" }}
vfs = 2

[[pf.vf]]
index = "*"
driver = "vfio-pci"
mac = "52:54:00:bb:00:{{index:02x}}"
vlan = 10

[[guest]]
name = "linux"
vfs = ["storage:0"]
memory = "512M"

[guest.kernel]
image = "/srv/linux/vmlinux"
initrd = "/srv/linux/initrd"
cmdline = "{CMDLINE}"
root = "iscsi:192.168.10.1::::{IQN}"
address = "192.168.10.10/24"

[guest.chap]
user = "{USER}"
secret = "/etc/vfagent/linux.chap"
"""


@pytest.mark.long
def test_a_linux_boots_from_an_iscsi_disk_in_the_vlan_of_its_vf(boot: Callable[..., VM]) -> None:
    linux = linux_guest()
    files: dict[str, Content] = {
        "/srv/linux/vmlinux": linux.kernel,
        "/srv/linux/initrd": linux.initrd,
        "/etc/vfagent/linux.chap": Entry(f"{SECRET}\n".encode(), 0o600),
    }
    target = Target(PF, vlan=10, disk=linux.disk.read_bytes(), login=(USER, SECRET))
    vm = boot([Igb("igb0")], vfagent_tree(POLICY, {**files, **target.tree()}), hypervisor=True)
    wait_printed(vm, "linux", f"{MARK} *by igbvf {MAC}", timeout=2700)
    assert phase(vm, "linux") == "running"
    [mine] = [vf for vf in vfs(vm, PF) if vf.index == 0]
    assert (mine.driver, mine.mac, mine.vlan) == ("vfio-pci", MAC, 10)
    assert "192.168.10.10" in vm.run("ss -tnH state established '( sport = :3260 )'").stdout
    sessions = vm.run(f"cat /sys/kernel/config/target/iscsi/{IQN}/tpgt_1/dynamic_sessions").stdout
    assert "iqn.2010-04.org.ipxe:linux" in sessions
    shown = vm.run("ps -ww -eo args; journalctl --no-pager; systemctl show vfagent-guest-linux.service").stdout
    assert SECRET not in shown
