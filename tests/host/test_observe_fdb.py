# SPDX-License-Identifier: Apache-2.0
"""What is above a PF, and what its bridges learned, on the real kernel. A vxlan stands for the PF: its MACs are not
local."""

from pathlib import Path

import pytest

from tests.host.namespace import add_veth, ip, link, run
from tests.host.tree import put
from vfagent.kernel.host_network import KernelNetwork
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Netdev
from vfagent.model.network import HostNetwork
from vfagent.reconcile.observe_fdb import bond_backup, uppers, with_fdb
from vfagent.store.identity import open_host

GUEST, FAR = "52:54:00:00:00:01", "52:54:00:00:00:02"


def add_pf_in_a_bridge() -> None:
    """pf0 and a guest's tap0 in vmbr0, and a bridge that is not above the PF."""
    ip("link", "add", "pf0", "type", "vxlan", "id", "3", "dstport", "4789")
    ip("link", "add", "vmbr0", "type", "bridge")
    ip("link", "add", "other", "type", "bridge")
    ip("tuntap", "add", "tap0", "mode", "tap")
    for name in ("pf0", "tap0"):
        ip("link", "set", name, "master", "vmbr0", "up")
    add_veth("veth0", "guest0", up=True)
    ip("link", "set", "veth0", "master", "other", "up")


def network_of(pf: str, wire: frozenset[str] = frozenset()) -> HostNetwork:
    host, shown = open_host(), link(pf)
    netdev = Netdev(
        name=pf, ifindex=int(shown["ifindex"]), mac=shown["address"], permanent_mac=None, mtu=1500, admin_up=True
    )
    return with_fdb(host, netdev, HostNetwork(), uppers(host, pf), DriverState(wire=wire))


def at_ports(bridge: str) -> set[tuple[int, str]]:
    entries = KernelNetwork().learnt(int(link(bridge)["ifindex"]))
    return {(entry.ifindex, entry.mac) for entry in entries}


@pytest.mark.usefixtures("kernel")
def test_a_bridge_on_the_pf_itself_is_above_it() -> None:
    add_pf_in_a_bridge()
    assert [upper.name for upper in uppers(open_host(), "pf0").values()] == ["vmbr0"]


@pytest.mark.usefixtures("kernel")
def test_only_what_local_ports_brought_counts() -> None:
    add_pf_in_a_bridge()
    run("bridge", "fdb", "add", GUEST, "dev", "tap0", "master", "static")
    run("bridge", "fdb", "add", FAR, "dev", "pf0", "master", "static")
    assert network_of("pf0").learnt == (("vmbr0", GUEST),)


@pytest.mark.usefixtures("kernel")
def test_a_neighbour_that_was_on_the_wire_is_known_after_a_guest_has_sent_with_its_mac() -> None:
    add_pf_in_a_bridge()
    ip("neigh", "add", "192.0.2.9", "lladdr", FAR, "dev", "vmbr0", "nud", "stale")
    ip("neigh", "add", "192.0.2.10", "lladdr", GUEST, "dev", "vmbr0", "nud", "stale")
    run("bridge", "fdb", "add", GUEST, "dev", "tap0", "master", "static")
    run("bridge", "fdb", "add", FAR, "dev", "pf0", "master", "static")
    before = network_of("pf0")
    assert before.wire == {FAR}
    run("bridge", "fdb", "replace", FAR, "dev", "tap0", "master", "static")
    after = network_of("pf0", before.wire)
    assert after.learnt == (("vmbr0", GUEST),)
    assert after.on_the_wire == (("tap0", FAR),)


@pytest.mark.usefixtures("kernel")
def test_a_bridge_ports_own_fdb_is_not_its_bridges() -> None:
    network = KernelNetwork()
    ip("link", "add", "pf0", "type", "ifb")
    ip("link", "add", "vmbr0", "type", "bridge")
    ip("link", "set", "pf0", "master", "vmbr0", "up")
    pf = int(link("pf0")["ifindex"])
    run("bridge", "fdb", "add", FAR, "dev", "pf0", "master", "static")
    before = network.fdb(pf)
    network.add_fdb(pf, GUEST)
    assert network.fdb(pf) - before == {GUEST}
    assert FAR not in network.fdb(pf)
    assert at_ports("vmbr0") == {(pf, FAR)}
    network.remove_fdb(pf, GUEST)
    assert network.fdb(pf) == before
    assert at_ports("vmbr0") == {(pf, FAR)}


@pytest.mark.parametrize(("state", "backup"), [("backup", True), ("active", False), (None, False)])
def test_a_bonds_port_says_whether_the_bond_uses_it(tmp_path: Path, state: str | None, *, backup: bool) -> None:
    if state:
        put(tmp_path / "sys/class/net/pf0/bonding_slave/state", f"{state}\n")
    assert bond_backup(open_host(tmp_path), "pf0") is backup
