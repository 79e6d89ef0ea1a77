# SPDX-License-Identifier: Apache-2.0
"""What is above a PF, and what its bridges learned, on the real kernel. A vxlan stands for the PF: its MACs are not
local."""

from pathlib import Path

import pytest

from tests.host.namespace import add_veth, ip, link, run
from tests.host.tree import put
from vfagent.kernel.host_network import KernelNetwork
from vfagent.reconcile.observe_fdb import bond_backup, learnt, uppers
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


@pytest.mark.usefixtures("kernel")
def test_a_bridge_on_the_pf_itself_is_above_it() -> None:
    add_pf_in_a_bridge()
    assert [upper.name for upper in uppers(open_host(), "pf0").values()] == ["vmbr0"]


@pytest.mark.usefixtures("kernel")
def test_only_what_local_ports_brought_counts() -> None:
    add_pf_in_a_bridge()
    run("bridge", "fdb", "add", GUEST, "dev", "tap0", "master", "static")
    run("bridge", "fdb", "add", FAR, "dev", "pf0", "master", "static")
    host = open_host()
    assert learnt(host, list(uppers(host, "pf0").values())) == (("vmbr0", GUEST),)


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
    assert (pf, GUEST) not in network.learnt(int(link("vmbr0")["ifindex"]))
    network.remove_fdb(pf, GUEST)
    assert network.fdb(pf) == before
    assert (pf, FAR) in network.learnt(int(link("vmbr0")["ifindex"]))


@pytest.mark.parametrize(("state", "backup"), [("backup", True), ("active", False), (None, False)])
def test_a_bonds_port_says_whether_the_bond_uses_it(tmp_path: Path, state: str | None, *, backup: bool) -> None:
    if state:
        put(tmp_path / "sys/class/net/pf0/bonding_slave/state", f"{state}\n")
    assert bond_backup(open_host(tmp_path), "pf0") is backup
