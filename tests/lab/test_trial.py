# SPDX-License-Identifier: Apache-2.0
"""A policy on trial that is applied over the NIC which it changes."""

import json
import subprocess
from collections.abc import Callable

import pytest

from tests.lab.facts import netdev, vfs
from tests.lab.install import vfagent_tree
from tests.lab.nic import ReachedIgb
from tests.lab.test_host_network import addresses, settled
from tests.lab.vm import VM
from tests.lab.warm import WarmVM

PF = "0000:01:00.0"
BEFORE = '[[pf]]\nname = "net"\nmatch.driver = "igb"\nvfs = 1\n'
# Tagged frames reach nobody, so the session ends with the move of its address.
CUTS_OFF = """
[[pf]]
name = "net"
match.driver = "igb"
vfs = 2
allow_management = true

[[pf.vlan]]
id = 99
name = "vlan99"
addresses = ["{address}"]
take_addresses_from = "{source}"
allow_management = true
"""


@pytest.fixture(scope="module")
def vm(warm_module: Callable[..., WarmVM]) -> WarmVM:
    """The policy before is active, and the card's port has the address by which the administrator comes."""
    machine = warm_module([ReachedIgb()], vfagent_tree(BEFORE))
    machine.run("systemctl start vfagent", timeout=120)
    settled(machine)
    machine.run(f"ip link set {netdev(machine, PF)} up; ip addr add {ReachedIgb.ADDRESS} dev {netdev(machine, PF)}")
    address = ReachedIgb.ADDRESS.partition("/")[0]
    machine.run(
        f"sed s/10.0.2.15/{address}/ /etc/ssh/lab_sshd_config >/run/sshd_config; /usr/sbin/sshd -f /run/sshd_config"
    )
    return machine


def session(vm: VM, command: str) -> subprocess.CompletedProcess[bytes]:
    return vm.remote.by_another_nic(ReachedIgb.SSH, command, 180)


def active(vm: VM) -> str:
    return str(json.loads(vm.run("vfagent status --json", check=False).stdout)["policy"]["digest"])


def test_a_policy_that_cuts_the_session_off_is_left_again(vm: WarmVM) -> None:
    before, source = active(vm), netdev(vm, PF)
    assert session(vm, "vfagent status").returncode == 0
    vm.put("/etc/vfagent/policy.toml", CUTS_OFF.format(address=ReachedIgb.ADDRESS, source=source).encode())
    lost = session(vm, "vfagent apply --yes --confirm 20s")
    assert lost.returncode == 255, (lost.stdout, lost.stderr)
    vm.wait_for(f"ip addr show {source} | grep -q {ReachedIgb.ADDRESS}", 90)
    settled(vm)
    assert active(vm) == before
    assert len(vfs(vm, PF)) == 1
    assert addresses(vm, source) == {ReachedIgb.ADDRESS}
    assert vm.run("ip link show vlan99", check=False).returncode == 1
    again = session(vm, "vfagent status")
    assert b"was not confirmed" in again.stdout, again
