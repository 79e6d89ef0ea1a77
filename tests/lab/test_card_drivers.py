# SPDX-License-Identifier: Apache-2.0
"""What drivers lack, refuse, do late or do not report, and what holds nevertheless, on cards of tests/lab/card.

tests/lab/card/kinds.c names the kernel's function that each kind imitates.
"""

from collections.abc import Callable
from errno import EINVAL, ENOMEM

import pytest

from tests.lab.facts import SYSFS, journal
from tests.lab.install import vfagent_tree
from tests.lab.labcard import PfFacts, complaints, facts, labcard_tree, load, set_knob
from tests.lab.payload import Entry
from tests.lab.vf_user import VF_USER
from tests.lab.vm import VM
from tests.lab.warm import WarmVM

# By domain, in the order in which they are made.
CARDS = {
    "0001:01:00.0": "bnxt_en",
    "0002:01:00.0": "bnx2x",
    "0003:01:00.0": "igb,carrier=3000",
    "0004:01:00.0": "i40e",
    "0005:01:00.0": "rvu_nicpf",
    "0006:01:00.0": "ice",
    "0007:01:00.0": "mlx5_core",
    "0008:01:00.0": "ixgbe",
    "0009:01:00.0": "labcard",
}
BNXT, BNX2X, IGB, I40E, OCTEON, ICE, MLX5, IXGBE, FULL = CARDS
TRUST_AND_SPOOF_CHECK = 0x18  # bits of enum operation in labcard.h
SURPRISES = {
    ICE: ("refuse/vlan", EINVAL),
    MLX5: ("not_reported", TRUST_AND_SPOOF_CHECK),
    IXGBE: ("most", 3),
    FULL: ("refuse/numvfs", ENOMEM),
}
GUEST = '[[pf.vf]]\ndriver = "vfio-pci"'
POLICY = f"""
[[pf]]
name = "broadcom"
match = {{ driver = "bn*" }}
vfs = 2
{GUEST}
vlan = 10

[[pf]]
name = "igb"
match = {{ driver = "igb" }}
vfs = 2
{GUEST}
vlan = 10
link_state = "enable"
max_tx_rate = 500

[[pf]]
name = "least"
match = {{ driver = "i40e" }}
vfs = 2
{GUEST}
min_tx_rate = 100
max_tx_rate = 500

[[pf]]
name = "octeon"
match = {{ driver = "rvu_nicpf" }}
vfs = 2
{GUEST}
mac = "52:54:00:bb:05:{{index:02x}}"
vlan = 10

[[pf]]
name = "refused"
match = {{ driver = "ice" }}
vfs = 2
{GUEST}
mac = "52:54:00:bb:06:{{index:02x}}"
vlan = 10

[[pf]]
name = "silent"
match = {{ driver = "mlx5_core" }}
vfs = 2
{GUEST}
trust = true
spoof_check = false

[[pf]]
name = "few"
match = {{ driver = "ixgbe" }}
vfs = 5
{GUEST}
vlan = 10

[[pf]]
name = "full"
match = {{ driver = "labcard" }}
vfs = 2
{GUEST}
"""


@pytest.fixture(scope="module")
def vm(warm_module: Callable[..., WarmVM]) -> WarmVM:
    extra = labcard_tree() | {"/usr/local/bin/hold-vf": Entry(VF_USER, 0o755)}
    machine = warm_module([], vfagent_tree(POLICY, extra, enabled=False))
    load(machine, *CARDS.values())
    for pf, (knob, value) in SURPRISES.items():
        set_knob(machine, pf, knob, value)
    machine.run("systemctl start vfagent.service", timeout=240)
    return machine


@pytest.fixture(scope="module")
def pfs(vm: WarmVM) -> dict[str, PfFacts]:
    return started(vm)


def started(vm: VM) -> dict[str, PfFacts]:
    """Once nothing of the start is left to do: igb's rates are last, when its link is up."""
    vm.wait_for(lambda: (igb := facts(vm).get(IGB)) is None or igb.phase == "converged", 60)
    return facts(vm)


def vlans(pf: PfFacts) -> list[int]:
    return [vf["vlan_list"][0].get("vlan", 0) for vf in pf.settings]


def await_vfs(vm: WarmVM, pf: str, count: int) -> PfFacts:
    vm.wait_for(f"ls {SYSFS}/{pf}/virtfn{count - 1}/driver", 60)
    vm.wait_for(lambda: facts(vm)[pf].phase == "converged", 60)
    return facts(vm)[pf]


@pytest.mark.parametrize("pf", [BNXT, BNX2X])
def test_vfs_are_made_where_the_driver_makes_none_while_its_port_is_down(pfs: dict[str, PfFacts], pf: str) -> None:
    assert pfs[pf].phase == "converged"
    assert pfs[pf].drivers == ["vfio-pci"] * 2
    assert vlans(pfs[pf]) == [10, 10]


def test_rates_that_need_a_link_are_set_once_it_is_there(vm: WarmVM, pfs: dict[str, PfFacts]) -> None:
    assert [vf["rate"]["max_tx"] for vf in pfs[IGB].settings] == [500] * 2
    text = journal(vm)
    assert f"PF {IGB}" in text
    assert "EINVAL" not in "".join(line for line in text.splitlines() if IGB in line)


def test_what_a_driver_lacks_is_a_note_and_the_rest_is_set(pfs: dict[str, PfFacts]) -> None:
    igb, i40e = pfs[IGB].status, pfs[I40E].status
    assert igb
    assert igb["notes"] == ["link_state is not supported by igb"]
    assert vlans(pfs[IGB]) == [10, 10]
    assert i40e
    assert i40e["notes"] == ["min_tx_rate is not supported by i40e"]
    assert [vf["rate"] for vf in pfs[I40E].settings] == [{"max_tx": 500, "min_tx": 0}] * 2


def test_settings_reach_a_driver_that_takes_them_only_while_its_port_is_up(pfs: dict[str, PfFacts]) -> None:
    assert pfs[OCTEON].phase == "converged"
    assert [vf["address"] for vf in pfs[OCTEON].settings] == ["52:54:00:bb:05:00", "52:54:00:bb:05:01"]
    assert vlans(pfs[OCTEON]) == [10, 10]


def test_a_vf_whose_vlan_is_refused_gets_no_guest_until_it_is_accepted(vm: WarmVM, pfs: dict[str, PfFacts]) -> None:
    assert pfs[ICE].drivers == [""] * 2
    assert [vf["address"] for vf in pfs[ICE].settings] == ["52:54:00:bb:06:00", "52:54:00:bb:06:01"]
    assert "vlan 10: EINVAL" in str(pfs[ICE].status)
    set_knob(vm, ICE, "refuse/vlan", 0)
    vm.run("systemctl reload vfagent.service", timeout=120)
    assert vlans(await_vfs(vm, ICE, 2)) == [10, 10]


def test_what_a_driver_does_not_report_is_set_once(vm: WarmVM, pfs: dict[str, PfFacts]) -> None:
    assert pfs[MLX5].phase == "converged"
    set_knob(vm, MLX5, "not_reported", 0)
    assert [(vf["trust"], vf["spoofchk"]) for vf in facts(vm)[MLX5].settings] == [(True, False)] * 2
    lines = [line for line in journal(vm).splitlines() if MLX5 in line]
    assert [sum(f"vf{index}" in line and "trust on" in line for line in lines) for index in (0, 1)] == [1, 1]


def test_fewer_vfs_than_asked_for_are_a_problem_and_serve_as_far_as_they_go(pfs: dict[str, PfFacts]) -> None:
    assert pfs[IXGBE].drivers == ["vfio-pci"] * 3
    assert vlans(pfs[IXGBE]) == [10] * 3
    assert "only 3 of the 5 VFs" in str(pfs[IXGBE].status)


def test_no_room_for_vfs_is_not_tried_again_and_says_what_to_do(vm: WarmVM, pfs: dict[str, PfFacts]) -> None:
    assert pfs[FULL].drivers == []
    assert "pci=realloc" in str(pfs[FULL].status)
    lines = [line for line in journal(vm).splitlines() if FULL in line]
    attempts = [line for line in lines if "cannot create 2 VFs" in line]
    # Each reload tries once more.
    assert len(attempts) == sum("suspended after 1 attempt" in line for line in lines) > 0


def test_a_vlan_that_somebody_else_sets_is_set_back(vm: WarmVM, pfs: dict[str, PfFacts]) -> None:
    name = pfs[BNXT].links[0]["ifname"]
    vm.run(f"ip link set {name} vf 1 vlan 99")
    vm.wait_for(f"ip link show {name} | grep 'vf 1.*vlan 10,'", 60)


def test_a_pf_that_was_removed_gets_its_vfs_back(vm: WarmVM, pfs: dict[str, PfFacts]) -> None:
    vm.run(f"echo 1 >{SYSFS}/{OCTEON}/remove; echo 1 >/sys/bus/pci/rescan", timeout=120)
    assert vlans(await_vfs(vm, OCTEON, 2)) == [10, 10]


def test_a_pf_whose_driver_is_bound_again_gets_its_vfs_back(vm: WarmVM, pfs: dict[str, PfFacts]) -> None:
    driver = "/sys/bus/pci/drivers/bnx2x"
    vm.run(f"echo {BNX2X} >{driver}/unbind; echo {BNX2X} >{driver}/bind", timeout=120)
    assert vlans(await_vfs(vm, BNX2X, 2)) == [10, 10]


def test_vfs_are_not_removed_while_a_process_has_one_open(vm: WarmVM, pfs: dict[str, PfFacts]) -> None:
    vf = vm.run(f"basename $(readlink {SYSFS}/{BNXT}/virtfn0)").stdout.strip()
    vm.run(f"systemd-run --quiet --unit hold hold-vf {vf}")
    vm.wait_for(f"grep -q 1 {SYSFS}/{vf}/enable", 30)
    vm.run("sed -i '0,/vfs = 2/s//vfs = 3/' /etc/vfagent/policy.toml; systemctl reload vfagent.service", timeout=120)
    vm.wait_for(lambda: facts(vm)[BNXT].phase == "deferred", 60)
    assert len(facts(vm)[BNXT].vfs) == 2
    assert await_vfs(vm, BNX2X, 3).drivers == ["vfio-pci"] * 3
    vm.run("systemctl stop hold")
    assert vlans(await_vfs(vm, BNXT, 3)) == [10] * 3


def test_the_kernel_has_nothing_to_warn_of(vm: WarmVM) -> None:
    assert not [line for line in complaints(vm) if "VFs requested" not in line]
