# SPDX-License-Identifier: Apache-2.0
"""What sysfs shows of a copied host where rtnetlink and devlink cannot be asked."""

from pathlib import Path

import pytest

from tests.host.tree import Tree, put
from vfagent.kernel.offline_tree import SysfsDevlink, SysfsNetwork, SysfsRtnl
from vfagent.kernel.sysfs import RootedSysfs
from vfagent.model.network import VlanTag
from vfagent.model.pci import PciAddress
from vfagent.reconcile.observe import observe_pf
from vfagent.store.identity import open_host

PF = PciAddress("0000:3b:00.0")


def card(root: Path, driver: str, ports: dict[str, str], switch: str = "aa") -> Tree:
    tree = Tree(root)
    tree.add_pf(PF, driver=driver, interface="ens1")
    for name, port in ports.items():
        if name != "ens1":
            tree.add_netdev(name, PF)
        put(tree.device(PF) / "net" / name / "phys_port_name", f"{port}\n")
        if switch:
            put(tree.device(PF) / "net" / name / "phys_switch_id", f"{switch}\n")
    return tree


@pytest.mark.parametrize(
    ("driver", "ports", "switch", "mode"),
    [
        ("mlx5_core", {"ens1": "p0"}, "", "legacy"),
        ("mlx5_core", {"ens1": "p0"}, "aa", "switchdev"),
        ("ice", {"ens1": "p0"}, "aa", "legacy"),
        ("ice", {"ens1": "p0", "rep-web": "pf0vf0"}, "aa", "switchdev"),
    ],
)
def test_the_eswitch_mode_is_that_of_the_netdevs(
    tmp_path: Path, driver: str, ports: dict[str, str], switch: str, mode: str
) -> None:
    card(tmp_path, driver, ports, switch)
    assert SysfsDevlink(RootedSysfs(tmp_path)).eswitch_mode(PF) == mode


def test_a_card_without_a_netdev_has_no_known_mode(tmp_path: Path) -> None:
    Tree(tmp_path).add_pf(PF, driver="mlx5_core")
    assert SysfsDevlink(RootedSysfs(tmp_path)).eswitch_mode(PF) is None


def test_subfunctions_and_the_pf_of_another_host_use_the_switch_of_a_dpu(tmp_path: Path) -> None:
    card(tmp_path, "mlx5_core", {"ens1": "p0", "pf0hpf": "c1pf0", "en3f0pf0sf88": "pf0sf88", "eth0": "pf0vf0"})
    pf = observe_pf(open_host(tmp_path), PF)
    assert pf is not None
    assert pf.switch_users == ("en3f0pf0sf88", "pf0hpf")


def test_the_own_representor_of_an_nfp_is_nobody_else(tmp_path: Path) -> None:
    card(tmp_path, "nfp", {"ens1": "p0", "eth5": "pf0", "eth6": "pf0vf0"})
    pf = observe_pf(open_host(tmp_path), PF)
    assert pf is not None
    assert pf.switch_users == ()


def test_a_port_whose_name_has_the_letters_of_a_representor_is_a_port(tmp_path: Path) -> None:
    card(tmp_path, "rvu_nicpf", {"ens1": "sfp0", "ens2": "sfp1"}, switch="")
    pf = observe_pf(open_host(tmp_path), PF)
    assert pf is not None
    assert [netdev.name for netdev in pf.netdevs] == ["ens1", "ens2"]


def test_the_port_of_a_bond_has_its_own_permanent_address(tmp_path: Path) -> None:
    tree = card(tmp_path, "ice", {"ens1": "p0"})
    put(tree.device(PF) / "net/ens1/bonding_slave/perm_hwaddr", "02:00:00:00:3b:00\n")
    link = SysfsRtnl(RootedSysfs(tmp_path)).link(1, vfs=False)
    assert link is not None
    assert (link.mac, link.permanent_mac) == ("02:00:00:00:00:01", "02:00:00:00:3b:00")


@pytest.mark.parametrize(("name", "proc"), [("ens1.100", ""), ("storage", "storage  VID: 100\t REORDER_HDR: 1\n")])
def test_a_vlan_interface_is_one_by_its_type(tmp_path: Path, name: str, proc: str) -> None:
    tree = card(tmp_path, "ice", {"ens1": "p0"})
    tree.add_netdev(name, "0000:99:00.0")
    put(tmp_path / f"sys/class/net/{name}/uevent", f"DEVTYPE=vlan\nINTERFACE={name}\n")
    put(tmp_path / f"sys/class/net/{name}/iflink", "1\n")
    if proc:
        put(tmp_path / f"proc/net/vlan/{name}", proc)
    link = SysfsNetwork(RootedSysfs(tmp_path)).link(name)
    assert link is not None
    assert (link.kind, link.vlan, link.lower) == ("vlan", VlanTag(100), 1)


def test_a_representor_is_a_link_without_a_kind(tmp_path: Path) -> None:
    tree = card(tmp_path, "mlx5_core", {"ens1": "p0", "eth0": "pf0vf0"})
    (tree.device(PF) / "net/eth0/device").symlink_to("../..")
    link = SysfsNetwork(RootedSysfs(tmp_path)).link("eth0")
    assert link is not None
    assert link.kind is None
