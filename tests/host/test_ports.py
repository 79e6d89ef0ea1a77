# SPDX-License-Identifier: Apache-2.0
"""Interfaces that belong to a bridge or to a macvtap by the time a step is carried out, on real links."""

from contextlib import suppress
from pathlib import Path

import pytest

from tests.host.namespace import add_veth, ip, link
from tests.host.real_host import host_of
from vfagent.errors import RefusedError, StepError
from vfagent.kernel.protocols import Host
from vfagent.model.network import VlanTag
from vfagent.model.pci import PciAddress
from vfagent.plan.network_steps import CreateVlan, DeleteLink, LinkChange, SetLink, SetRepresentor
from vfagent.reconcile.execute import execute

PF = PciAddress("0000:01:00.0")

pytestmark = pytest.mark.usefixtures("kernel")


@pytest.fixture
def host(tmp_path: Path, kernel: None) -> Host:
    return host_of(tmp_path)


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


JOIN = LinkChange(bridge="br0")
TAKEN = "p0 is a port of br-x, a bridge, and vfagent did not put it there"


def port_of_another_bridge() -> int:
    """p0, which vfagent made, and somebody has put into br-x since it was observed."""
    index = add_veth("p0", "far")
    for bridge in ("br0", "br-x"):
        ip("link", "add", bridge, "type", "bridge")
    ip("link", "set", "p0", "alias", "vfagent", "master", "br-x")
    return index


@pytest.mark.parametrize("change", [JOIN, LinkChange(bridge="")], ids=["to another bridge", "out"])
def test_a_vlan_interface_is_not_taken_out_of_a_bridge_of_another_program(host: Host, change: LinkChange) -> None:
    step = SetLink(PF, "p0", port_of_another_bridge(), change)
    with pytest.raises(RefusedError, match=TAKEN):
        execute(step, host)
    assert link("p0")["master"] == "br-x"


def test_a_representor_is_not_taken_out_of_a_bridge_of_another_program(host: Host) -> None:
    step = SetRepresentor(PF, 0, "p0", port_of_another_bridge(), JOIN)
    with pytest.raises(RefusedError, match=TAKEN):
        execute(step, host)
    assert link("p0")["master"] == "br-x"


def test_a_vlan_interface_in_a_bridge_of_another_program_is_not_removed(host: Host) -> None:
    step = DeleteLink(PF, "p0", port_of_another_bridge())
    with pytest.raises(RefusedError, match=TAKEN):
        execute(step, host)
    assert link("p0")["master"] == "br-x"


def test_a_port_leaves_the_bridge_that_vfagent_put_it_into(host: Host) -> None:
    index = port_of_another_bridge()
    execute(SetLink(PF, "p0", index, JOIN, leaves="br-x"), host)
    assert link("p0")["master"] == "br0"
    execute(SetLink(PF, "p0", index, LinkChange(bridge=""), leaves="br0"), host)
    assert "master" not in link("p0")


def test_a_port_leaves_a_bridge_that_vfagent_made(host: Host) -> None:
    index = port_of_another_bridge()
    ip("link", "set", "br-x", "alias", "vfagent")
    execute(SetLink(PF, "p0", index, JOIN), host)
    assert link("p0")["master"] == "br0"


def test_nothing_joins_an_interface_that_became_no_bridge(host: Host) -> None:
    index = add_veth("p0", "br0")
    ip("link", "set", "p0", "alias", "vfagent")
    with pytest.raises(RefusedError, match="br0 exists already, but is a veth, not a bridge"):
        execute(SetLink(PF, "p0", index, JOIN), host)
