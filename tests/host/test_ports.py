# SPDX-License-Identifier: Apache-2.0
"""Interfaces that belong to a bridge or to a macvtap by the time a step is carried out, on real links."""

from contextlib import suppress
from pathlib import Path

import pytest

from tests.host.namespace import add_veth, ip, link
from vfagent.errors import RefusedError, StepError
from vfagent.kernel.device_users import KernelDeviceUsers
from vfagent.kernel.devlink import KernelDevlink
from vfagent.kernel.host_network import KernelNetwork
from vfagent.kernel.protocols import Host
from vfagent.kernel.routes import KernelRoutes
from vfagent.kernel.rtnl import KernelRtnl
from vfagent.kernel.sysfs import RootedSysfs
from vfagent.kernel.udev import NoUdevDatabase
from vfagent.model.network import VlanTag
from vfagent.model.pci import PciAddress
from vfagent.plan.network_steps import CreateVlan
from vfagent.reconcile.execute import execute
from vfagent.store.move_journal import MoveJournal

PF = PciAddress("0000:01:00.0")

pytestmark = pytest.mark.usefixtures("kernel")


@pytest.fixture
def host(tmp_path: Path, kernel: None) -> Host:
    journal, network = MoveJournal(tmp_path), KernelNetwork()
    users = KernelDeviceUsers()
    return Host(RootedSysfs(), KernelRtnl(), KernelDevlink(), NoUdevDatabase(), network, KernelRoutes(), journal, users)


def create_vlan() -> CreateVlan:
    return CreateVlan(PF, "ens1", int(link("ens1")["ifindex"]), "vlan10", VlanTag(10))


def test_no_vlan_interface_is_made_on_what_became_a_port_of_a_bridge(host: Host) -> None:
    add_veth("ens1", "wire")
    ip("link", "add", "vmbr0", "type", "bridge")
    ip("link", "set", "ens1", "master", "vmbr0")
    with pytest.raises(RefusedError) as refused:
        execute(create_vlan(), host)
    assert str(refused.value) == (
        "0000:01:00.0: cannot create VLAN interface vlan10 (802.1Q id 10) on ens1: ens1 is a port of vmbr0, a bridge; "
        "with a VLAN interface on ens1, no frame of VLAN 10 would reach vmbr0 and what is on it: "
        "have it made on vmbr0 itself, or take ens1 out of vmbr0"
    )


@pytest.mark.parametrize("kind", ["macvlan", "macvtap"])
def test_no_vlan_interface_is_made_below_a_macvtap_in_passthru_mode(host: Host, kind: str) -> None:
    add_veth("ens1", "wire")
    ip("link", "add", "link", "ens1", "name", "guest0", "type", kind, "mode", "passthru")
    with pytest.raises(RefusedError, match=f"ens1 gives all its frames to guest0, a {kind} in passthru mode"):
        execute(create_vlan(), host)


def test_beside_other_macvlans_a_vlan_interface_is_asked_for(host: Host) -> None:
    """The kernel under the test may have no 802.1Q, and then says so itself."""
    add_veth("ens1", "wire")
    ip("link", "add", "link", "ens1", "name", "container0", "type", "macvlan", "mode", "bridge")
    with suppress(StepError):
        execute(create_vlan(), host)
