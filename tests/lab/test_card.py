# SPDX-License-Identifier: Apache-2.0
"""Cards that no emulator has, as a kernel module: what a policy can set, and PFs that lack what others have.

All of it goes through the kernel's own PCI, SR-IOV, rtnetlink, IOMMU and VFIO code; see tests/lab/card/main.c.
"""

from collections.abc import Callable

import pytest

from tests.lab.facts import SYSFS
from tests.lab.install import REPOSITORY, vfagent_tree
from tests.lab.labcard import PfFacts, complaints, facts, labcard_tree, load, plug
from tests.lab.shell import host, parser
from tests.lab.warm import WarmVM

# By domain, in the order in which they are made.
CARDS = {
    "0001:01:00.0": "labcard",
    "0002:01:00.0": "4xxx,vfs=4",  # no netdev
    "0003:01:00.0": "ipoib",
    "0004:01:00.0": "i40e,limit=0",  # totalvfs 0
    "0005:01:00.0": "bnxt_en,ports=2",
    "0006:01:00.0": "cxgb4,vfs=4",  # a NIC without a netdev
}
NIC, QAT, INFINIBAND, NO_VFS, TWO_PORTS, NETLESS = CARDS
READY_LATE_S = 100.0  # of the 300 after which READY is sent in any case; a grace for netdevs is 10
NINTH = "0007:01:01.0"  # function 8 of a card that is plugged later
POLICY = f"""
[[pf]]
name = "nic"
match = {{ driver = "labcard" }}
vfs = 2

[[pf.vf]]
index = "0"
driver = "vfio-pci"
mac = "52:54:00:bb:00:01"
vlan = 10
vlan_protocol = "802.1ad"
qos = 3
spoof_check = false
trust = true
link_state = "enable"
min_tx_rate = 100
max_tx_rate = 1000

[[pf.vf]]
index = "1"
driver = "host"
mac = "52:54:00:bb:00:02"

[[pf]]
name = "qat"
match = {{ driver = "4xxx" }}
vfs = "max"

[[pf.vf]]
driver = "vfio-pci"

[[pf]]
name = "infiniband"
match = {{ pci = "{INFINIBAND}" }}
vfs = 2

[[pf.vf]]
driver = "vfio-pci"
link_state = "enable"
node_guid = "02:00:00:03:00:00:41:{{index:02x}}"
port_guid = "02:00:00:03:00:00:42:{{index:02x}}"

[[pf]]
name = "none"
match = {{ driver = "i40e" }}
vfs = 2

[[pf]]
name = "ports"
match = {{ driver = "bnxt_en" }}
vfs = 2

[[pf.vf]]
driver = "vfio-pci"
vlan = 20

[[pf]]
name = "netless"
match = {{ driver = "cxgb4" }}
vfs = 2

[[pf.vf]]
driver = "vfio-pci"
vlan = 40

[[pf]]
name = "elsewhere"
match = {{ interface = "no-such-interface" }}
vfs = 2

[[pf]]
name = "ninth"
match = {{ pci = "{NINTH}" }}
vfs = 2

[[pf.vf]]
driver = "vfio-pci"
vlan = 30
"""


@pytest.fixture(scope="module")
def vm(warm_module: Callable[..., WarmVM]) -> WarmVM:
    machine = warm_module([], vfagent_tree(POLICY, labcard_tree(), enabled=False))
    load(machine, *CARDS.values())
    machine.run("systemctl start vfagent.service", timeout=240)
    return machine


@pytest.fixture(scope="module")
def pfs(vm: WarmVM) -> dict[str, PfFacts]:
    """As they are when the service is ready."""
    return facts(vm)


def test_each_setting_of_a_vf_is_in_the_kernel(pfs: dict[str, PfFacts]) -> None:
    assert pfs[NIC].phase == "converged"
    first = pfs[NIC].settings[0]
    assert first["address"] == "52:54:00:bb:00:01"
    assert first["vlan_list"] == [{"vlan": 10, "qos": 3, "protocol": "802.1ad"}]
    assert first["rate"] == {"max_tx": 1000, "min_tx": 100}
    assert [first[name] for name in ("spoofchk", "trust", "link_state")] == [False, True, "enable"]


def test_each_vf_has_its_driver_and_its_iommu_group(pfs: dict[str, PfFacts]) -> None:
    assert pfs[NIC].drivers == ["vfio-pci", "labcardvf"]
    assert pfs[NIC].vfs[1]["macs"] == ["52:54:00:bb:00:02"]
    groups = [vf["group"] for pf in pfs.values() for vf in pf.vfs]
    assert len(set(groups)) == len(groups)
    assert "" not in groups


def test_a_pf_without_a_netdev_gets_its_vfs(pfs: dict[str, PfFacts]) -> None:
    assert pfs[QAT].phase == "converged"
    assert pfs[QAT].drivers == ["vfio-pci"] * 4


def test_an_infiniband_pf_gets_its_vfs_with_their_guids_and_link_state(pfs: dict[str, PfFacts]) -> None:
    assert pfs[INFINIBAND].phase == "converged"
    assert pfs[INFINIBAND].drivers == ["vfio-pci"] * 2
    assert [vf["link_state"] for vf in pfs[INFINIBAND].settings] == ["enable"] * 2
    guids = [(vf["node guid"], vf["port guid"]) for vf in pfs[INFINIBAND].settings]
    assert guids == [(f"02:00:00:03:00:00:41:0{index}", f"02:00:00:03:00:00:42:0{index}") for index in (0, 1)]


def test_a_nic_without_a_netdev_gets_its_vfs_and_says_what_cannot_be_set(pfs: dict[str, PfFacts]) -> None:
    status = pfs[NETLESS].status
    assert len(pfs[NETLESS].vfs) == 2
    assert status
    assert not status["waiting"]
    assert "vf0: vlan 40 cannot be set: the PF has no netdev" in str(status["problems"])


def test_none_of_these_pfs_makes_the_start_late(vm: WarmVM, pfs: dict[str, PfFacts]) -> None:
    assert {pf.status["phase"] for pf in pfs.values() if pf.status} == {"converged", "failed"}
    ready = vm.run("journalctl -b -u vfagent -o cat --grep 'ready after'").stdout
    assert float(ready.split()[2]) < READY_LATE_S


def test_a_pf_that_allows_no_vfs_is_a_problem_and_not_waited_for(pfs: dict[str, PfFacts]) -> None:
    status = pfs[NO_VFS].status
    assert status
    assert status["phase"] == "failed"
    assert "sriov_totalvfs is 0" in str(status["problems"])
    assert not status["waiting"]


def test_both_netdevs_of_a_pf_show_what_was_set_through_the_first(pfs: dict[str, PfFacts]) -> None:
    assert pfs[TWO_PORTS].phase == "converged"
    assert [port["vfinfo_list"][0]["vlan_list"] for port in pfs[TWO_PORTS].links] == [[{"vlan": 20}]] * 2


def test_a_pf_beyond_the_eighth_function_of_a_new_card_gets_its_vfs(vm: WarmVM) -> None:
    plug(vm, "ice,pfs=9,ari=1,vfs=4,domain=7")
    vm.wait_for(f"ls {SYSFS}/{NINTH}/virtfn1/driver", 120)
    vm.wait_for(lambda: facts(vm)[NINTH].phase == "converged", 120)
    ninth = facts(vm)[NINTH]
    assert ninth.drivers == ["vfio-pci"] * 2
    assert [vf["vlan_list"] for vf in ninth.settings] == [[{"vlan": 30}]] * 2


def test_a_pf_that_is_renamed_keeps_its_vfs_and_is_shown_by_its_new_name(vm: WarmVM, pfs: dict[str, PfFacts]) -> None:
    vm.run(f"ip link set {pfs[NIC].links[0]['ifname']} name fabric0")
    vm.wait_for("vfagent status | grep -q '^0001:01:00.0 (fabric0): converged'", 60)
    assert facts(vm)[NIC].settings == pfs[NIC].settings


def test_the_kernel_has_nothing_to_warn_of(vm: WarmVM) -> None:
    assert not complaints(vm)


def test_make_lab_with_a_card_has_a_host_whose_tools_show_it_and_whose_service_converges(lab_image: object) -> None:
    options = parser().parse_args(["--card", "mlx5_core", "--policy", str(REPOSITORY / "config/examples/lab.toml")])
    with host(options) as shell:
        shell.wait_for(lambda: (pf := facts(shell).get(NIC)) and pf.phase == "converged", 120)
        card = facts(shell)[NIC]
        assert card.drivers == ["vfio-pci"] * 4
        assert f"{NIC} Ethernet controller" in shell.run("lspci -D").stdout
        assert f"pci/{NIC}" in shell.run("devlink dev show").stdout
        assert shell.run(f"ip link show {card.links[0]['ifname']} | grep -c 'vlan 10'").stdout.strip() == "4"
        shell.run(f"systemctl stop vfagent; echo 0 >{SYSFS}/{NIC}/sriov_numvfs")
        assert f"{NIC} ({card.links[0]['ifname']}): rule card\n" in shell.run("vfagent plan", check=False).stdout
        assert f"create 4 VFs on {NIC}" in shell.run("vfagent plan --steps", check=False).stdout
