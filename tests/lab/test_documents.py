# SPDX-License-Identifier: Apache-2.0
"""Types the commands of README and the documents on a host with two cards and a guest, page by page.

A page's names are replaced by those of the lab's host. Uninstalling is the last page.
"""

from collections.abc import Callable

import pytest

from tests.lab.facts import netdev
from tests.lab.guest_facts import wait_printed
from tests.lab.install import vfagent_tree
from tests.lab.nic import Igb, VirtioPf
from tests.lab.payload import Entry
from tests.lab.target import IQN, MARK, Target
from tests.lab.vm import VM
from tests.rules.commands import PAGES, typed_in_the_lab

pytestmark = pytest.mark.long

VIRTIO, IGB = "0000:01:00.0", "0000:02:00.0"
POLICY = f"""
[[pf]]
name = "storage"
match = {{ pci = "{VIRTIO}" }}
vfs = 2

[[pf.vf]]
index = "*"
driver = "vfio-pci"

[[pf]]
name = "tagged"
match = {{ driver = "igb" }}
vfs = 2

[[pf.vf]]
index = "*"
driver = "vfio-pci"
vlan = 10

[[guest]]
name = "cirros"
vfs = ["storage:0"]
memory = "128M"
unit.TimeoutStopSec = "5s"

[guest.ipxe]
address = "192.168.10.10/24"
sanboot = "iscsi:192.168.10.1::::{IQN}"
"""
FABRIC = '[[pf]]\nname = "fabric"\nmatch = { driver = "mlx5_core" }\nvfs = 4\n'
UNINSTALL = "docs/uninstall.md"
TYPED = [page for page in PAGES if typed_in_the_lab(page) and page != UNINSTALL]
FOLDERS = {"packaging/monitoring/README.md": "/usr/share/doc/vfagent/monitoring"}
# Statuses that are answers: steps are left (3), a change waits for a user (5), nothing matches (1), time is up (124).
ANSWERS = {
    "vfagent plan": {0, 3},
    "vfagent check && vfagent plan": {0, 3},
    "python3 -m vfagent plan": {0, 3},
    "vfagent status": {0, 3, 5},
    "vfagent doctor": {0, 3},
    "vfagent apply": {0, 5},
    "vfagent guest log -f": {124},
    "journalctl -u vfagent -g": {0, 1},
}


@pytest.fixture(scope="module")
def vm(boot_module: Callable[..., VM]) -> VM:
    payload = vfagent_tree(POLICY, {**Target(VIRTIO).tree(), "/etc/vfagent/fabric-bound.toml": Entry(FABRIC.encode())})
    machine = boot_module([VirtioPf("virtio0", vfs=2), Igb("igb0")], payload, hypervisor=True)
    machine.wait_boot()
    wait_printed(machine, "cirros", MARK)
    # A PF with an eswitch.
    machine.run("modprobe netdevsim && echo '7 1 2' >/sys/bus/netdevsim/new_device")
    return machine


def prepare(vm: VM) -> dict[str, str]:
    """The host converges to the lab's policy, its guest runs. Returns the lab's name for each name of the pages."""
    vm.put("/etc/vfagent/policy.toml", POLICY.encode())
    vm.run("rm -f /run/vfagent/policy.d/* /etc/systemd/network/00-pf.network")
    vm.run("systemctl restart vfagent && systemctl reload vfagent && vfagent guest start cirros", timeout=120)
    vm.wait_for("vfagent status", 240)
    return {
        "pci/0000:3b:00.0": "netdevsim/netdevsim7",
        "0000:3b:00.0": IGB,
        "ens1f0": netdev(vm, IGB),
        "NAME": "cirros",
        "release PF": f"release {IGB}",
        "--root DIR": "--root /",
    }


def type_page(vm: VM, page: str, names: dict[str, str]) -> list[str]:
    """Types each command, and returns those that failed, with their output."""
    failed = []
    for command in typed_in_the_lab(page):
        text = command.text
        for name, here in names.items():
            text = text.replace(name, here)
        if text.startswith("vfagent guest log -f"):
            text = f"timeout 5 {text}"
        done = vm.run(f"exec 2>&1 </dev/null; cd {FOLDERS.get(page, '/root')}\n{text}\n", check=False, timeout=330)
        answers = [statuses for start, statuses in ANSWERS.items() if command.text.startswith(start)]
        if done.returncode not in (answers[0] if answers else {0}):
            failed.append(f"{page}: {text}: exit {done.returncode}\n{done.stdout}")
    return failed


@pytest.mark.parametrize("page", TYPED)
def test_each_command_of_a_page_works(vm: VM, page: str) -> None:
    assert type_page(vm, page, prepare(vm)) == []


def test_uninstalling_leaves_nothing(vm: VM) -> None:
    """The page's commands for an installation from the source, which is the lab's."""
    assert type_page(vm, UNINSTALL, prepare(vm)) == []
    vm.run("rm -rf /usr/bin/vfagent /usr/lib/python3/dist-packages/vfagent")
    left = vm.run("find / -xdev -name '*vfagent*' -not -path '/var/log/*' -not -path '/root/*'").stdout
    assert left == ""
    assert vm.run("systemctl is-active vfagent", check=False).stdout == "inactive\n"
