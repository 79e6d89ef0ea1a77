# SPDX-License-Identifier: Apache-2.0
"""Which guest gets which VFs, and why it does not."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.guest.hosts import PF, managed, pf, placed, policy_of, vf
from vfagent.guests.spec.placement import place
from vfagent.model.inventory import Netdev, Vf
from vfagent.model.pci import PciAddress
from vfagent.policy.types import GuestRule, PfMatch, PfRule, Policy, VfCount, VfRule

TWO = Policy(
    pf=tuple(
        PfRule(name=name, match=PfMatch(pci=pci), vfs=VfCount(number=4), vf=(VfRule(driver="vfio-pci"),))
        for name, pci in (("a", "0000:01:*"), ("b", "0000:02:*"))
    )
)
ONE = PF.format(name="a", pci="0000:01:*")


def guest(name: str, *vfs: str, more: str = "") -> str:
    return f'[[guest]]\nname = "{name}"\nvfs = {list(vfs)}\n{more}\n[guest.ipxe]\naddress = "dhcp"\n'


def test_a_guest_gets_the_vf_it_names(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, ONE + guest("x", "a:2"))
    assert placed(policy, pf(1)) == {"x": "01/2"}


def test_on_a_vf_that_keeps_its_driver_that_driver_decides(tmp_path: Path) -> None:
    kept = ONE.replace('driver = "vfio-pci"', 'driver = "keep"')
    policy = policy_of(tmp_path, kept + guest("x", "a:0") + guest("y", "a:1") + guest("z", "a:2"))
    idle = Netdev("ens1v1", 7, "52:54:00:00:00:02", None, 1500, admin_up=False)
    hosts = replace(vf(1, 1, driver="igbvf"), driver_override=None, netdevs=(idle,))
    vfs = (vf(1, 0), hosts, replace(vf(1, 2, driver=None), driver_override=None), vf(1, 3))
    waits = "until another program binds it to vfio-pci"
    assert placed(policy, pf(1, vfs)) == {
        "x": "01/0",
        "y": f"0000:01:00.0/vf1: keeps driver igbvf, {waits}",
        "z": f"0000:01:00.0/vf2: keeps no driver, {waits}",
    }


def test_guests_with_any_vf_do_not_get_vfs_that_others_name(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, ONE + guest("any", "a") + guest("other", "a", "a") + guest("named", "a:0"))
    assert placed(policy, pf(1)) == {"any": "01/1", "other": "01/2 01/3", "named": "01/0"}


def test_no_vf_is_assigned_twice(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, ONE + "".join(guest(f"g{number}", "a") for number in range(5)))
    placements = placed(policy, pf(1))
    assert sorted(placements.values())[:4] == ["0000:01:00.0/vf0: is used by guest g0", "01/0", "01/1", "01/2"]


def test_two_guests_do_not_get_vfs_of_one_iommu_group(tmp_path: Path) -> None:
    vfs = tuple(replace(vf(1, index), iommu_group=7 if index < 2 else 8 + index) for index in range(4))
    policy = policy_of(tmp_path, ONE + guest("x", "a:0") + guest("y", "a:1") + guest("any", "a"))
    shared = (
        "0000:01:00.0/vf1: is in IOMMU group 7 with a VF of guest x, and a group is one guest's: the slot needs ACS, or"
        " give one guest both"
    )
    assert placed(policy, pf(1, vfs)) == {"x": "01/0", "y": shared, "any": "01/2"}
    assert placed(policy, pf(1, vfs), held={"y": (vfs[1].address,)})["x"].startswith("0000:01:00.0/vf0: is in IOMMU")
    both = policy_of(tmp_path, ONE + guest("x", "a:0", "a:1"))
    assert placed(both, pf(1, vfs)) == {"x": "01/0 01/1"}


def test_each_makes_a_guest_for_each_vf_of_the_policy(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, ONE + guest("n{index}", more='each = "a:1-2"').replace("vfs = []", ""))
    assert placed(policy, pf(1)) == {"n1": "01/1", "n2": "01/2"}
    waits = placed(policy, pf(1, ()))
    assert waits == {f"n{index}": f"0000:01:00.0/vf{index}: does not exist yet" for index in (1, 2)}
    assert placed(policy) == {}


def test_running_guests_keep_their_vfs(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, ONE + guest("x", "a") + guest("y", "a"))
    held = vf(1, 0, held=True)
    observed = pf(1, (held, *(vf(1, index) for index in (1, 2, 3))))
    assert placed(policy, observed, held={"y": (held.address,)}) == {"x": "01/1", "y": "01/0"}


def test_a_running_guest_that_is_not_in_the_policy_keeps_its_vf(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, ONE + guest("x", "a:0"))
    placements = placed(policy, pf(1), held={"gone": (vf(1, 0).address,)})
    assert placements == {"x": "0000:01:00.0/vf0: is used by guest gone"}


def test_vfs_on_the_wanted_numa_node_come_first(tmp_path: Path) -> None:
    both = PF.format(name="a", pci="*")
    policy = policy_of(tmp_path, both + guest("x", "a", more='[guest.unit]\nNUMAMask = "1"'))
    assert placed(policy, pf(1, numa_node=0), pf(2, numa_node=1)) == {"x": "02/0"}


def test_an_index_means_the_first_pf_of_the_rule_where_it_is_free(tmp_path: Path) -> None:
    both = PF.format(name="a", pci="*")
    policy = policy_of(tmp_path, both + guest("x", "a:0"))
    assert placed(policy, pf(2), pf(1)) == {"x": "01/0"}
    assert placed(policy, pf(2), pf(1, (vf(1, 0, held=True),))) == {"x": "02/0"}
    assert placed(policy, pf(2)) == {"x": "02/0"}


def test_each_makes_one_guest_for_an_index_that_several_pfs_have(tmp_path: Path) -> None:
    text = PF.format(name="a", pci="*") + guest("n{index}", more='each = "a:0-1"').replace("vfs = []", "")
    assert placed(policy_of(tmp_path, text), pf(1), pf(2)) == {"n0": "01/0", "n1": "01/1"}


def test_the_second_vf_is_on_the_numa_node_of_the_first(tmp_path: Path) -> None:
    text = PF.format(name="far", pci="0000:02:*") + PF.format(name="a", pci="*") + guest("x", "far:0", "a")
    policy = policy_of(tmp_path, text)
    assert placed(policy, pf(1, numa_node=0), pf(2, numa_node=1), pf(3, numa_node=1)) == {"x": "02/0 03/0"}


def test_a_guest_gets_all_its_vfs_or_none(tmp_path: Path) -> None:
    text = ONE + PF.format(name="b", pci="0000:02:*") + guest("two", "a:0", "b:0") + guest("any", "a")
    policy = policy_of(tmp_path, text)
    assert placed(policy, pf(1)) == {"two": "no PF of rule 'b' has a free VF", "any": "01/1"}


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (vf(1, 0, held=True), "a process has it open through vfio-pci"),
        (vf(1, 0, driver=None), "is not bound to vfio-pci yet"),
        (replace(vf(1, 0, driver=None), enabled=True), "it is being unbound from its driver"),
    ],
    ids=["held", "unbound", "removed"],
)
def test_a_guest_waits_for_a_vf_that_is_not_free(tmp_path: Path, bad: Vf, why: str) -> None:
    policy = policy_of(tmp_path, ONE + guest("named", "a:0") + guest("any", "a"))
    observed = pf(1, (bad, *(vf(1, index) for index in (1, 2, 3))))
    assert placed(policy, observed) == {"named": f"0000:01:00.0/vf0: {why}", "any": "01/1"}


def test_a_guest_waits_for_steps_of_its_own_vf_only(tmp_path: Path) -> None:
    text = ONE + '[[pf]]\nname = "b"\nmatch = { pci = "9999:*" }\n' + guest("x", "a:0") + guest("y", "a:1")
    policy = policy_of(tmp_path, text.replace('index = "*"', 'index = "0"\nvlan = 10\ndriver = "vfio-pci"\n[[pf.vf]]'))
    assert placed(policy, pf(1)) == {"x": "0000:01:00.0/vf0: set 0000:01:00.0/vf0 vlan 10", "y": "01/1"}


def test_no_vf_is_assigned_while_the_vf_count_is_to_change(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, ONE + guest("x", "a:1"))
    held = pf(1, (vf(1, 0, held=True), vf(1, 1)))
    assert placed(policy, held) == {"x": "0000:01:00.0/vf1: create 4 VFs on 0000:01:00.0 is deferred"}


def test_no_vf_is_assigned_while_the_eswitch_mode_is_to_change(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, ONE.replace("vfs = 4", 'eswitch = "switchdev"') + guest("x", "a:1"))
    observed = replace(pf(1, (vf(1, 0, held=True), vf(1, 1))), driver="ice", eswitch="legacy")
    waits = "set eswitch mode of 0000:01:00.0 to switchdev is deferred"
    assert placed(policy, observed) == {"x": f"0000:01:00.0/vf1: {waits}"}


def test_no_vf_is_assigned_where_there_is_no_eswitch_mode(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, ONE.replace("vfs = 4", 'vfs = 4\neswitch = "switchdev"') + guest("x", "a:1"))
    assert placed(policy, pf(1)) == {"x": "0000:01:00.0/vf1: eswitch switchdev is not supported by igb"}


def test_no_vf_of_a_stuck_pf_is_assigned(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, ONE + guest("x", "a:1"))
    [placement] = place(policy.guest, managed(policy, pf(1), trouble="is stuck"), {})
    assert placement.waits == "0000:01:00.0/vf1: is stuck"


def test_the_placement_does_not_depend_on_the_order_of_pfs(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, PF.format(name="a", pci="*") + guest("x", "a") + guest("y", "a:1"))
    assert placed(policy, pf(1), pf(2)) == placed(policy, pf(2), pf(1)) == {"x": "01/0", "y": "01/1"}


def test_guests_that_are_not_to_start_come_last_for_any_vf(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, ONE.replace("vfs = 4", "vfs = 1") + guest("x", "a") + guest("y", "a"))
    placements = place(policy.guest, managed(policy, pf(1, (vf(1, 0),))), {}, {"x"})
    assert [(placement.rule.name, len(placement.vfs)) for placement in placements] == [("x", 0), ("y", 1)]


def test_a_running_guest_whose_vf_is_gone_is_placed_without_vfs(tmp_path: Path) -> None:
    """The VFs of a running unit are known by address. One that no longer exists cannot be shown."""
    policy = policy_of(tmp_path, ONE + guest("x", "a:0"))
    assert placed(policy, pf(1), held={"x": (PciAddress("0000:09:10.0"),)}) == {"x": ""}


_NAMES = st.sampled_from(["a", "b", "a:0", "a:1", "a:3", "b:2"])


@settings(max_examples=150, deadline=None)
@given(
    references=st.lists(st.lists(_NAMES, min_size=1, max_size=3, unique=True), max_size=6),
    running=st.lists(st.sampled_from([0, 1, 2, 3]), unique=True, max_size=2),
    unbound=st.lists(st.sampled_from([(1, 0), (1, 2), (2, 1)]), unique=True),
)
def test_each_vf_has_at_most_one_guest(
    references: list[list[str]], running: list[int], unbound: list[tuple[int, int]]
) -> None:
    rules = [GuestRule(name=f"g{number}", vfs=tuple(names)) for number, names in enumerate(references)]
    policy = replace(TWO, guest=tuple(rules))
    vfs = {
        bus: tuple(vf(bus, index, driver=None if (bus, index) in unbound else "vfio-pci") for index in range(4))
        for bus in (1, 2)
    }
    held = {f"g{number}": (vf(1, index).address,) for number, index in enumerate(running)}
    placements = place(policy.guest, managed(policy, pf(1, vfs[1]), pf(2, vfs[2])), held)
    assigned = [vf.address for placement in placements for vf in placement.vfs]
    assert len(assigned) == len(set(assigned))
    for placement in placements:
        mine = held.get(placement.rule.name)
        assert mine is None or tuple(vf.address for vf in placement.vfs) == mine
        assert mine or placement.waits or len(placement.vfs) == len(placement.rule.vfs)
        others = {address for name, addresses in held.items() if name != placement.rule.name for address in addresses}
        assert not others & {vf.address for vf in placement.vfs}
