# SPDX-License-Identifier: Apache-2.0
"""What vfagent promises, on a host whose cards do all that drivers are known for. docs/cards.md names each of these."""

from collections.abc import Callable

import pytest

from tests.lab.card_host import (
    CARDS,
    CASES,
    MANY,
    MANY_DOMAIN,
    PFS,
    await_pf,
    change_back,
    change_in_use,
    macs,
    one,
    policy,
    preparations,
    reload_with,
    started,
)
from tests.lab.facts import SYSFS, journal
from tests.lab.install import vfagent_tree
from tests.lab.labcard import KNOBS, PfFacts, complaints, facts, labcard_tree, load, plug, set_knob
from tests.lab.payload import Entry
from tests.lab.vf_user import VF_USER
from tests.lab.warm import WarmVM

SCRAPE = "python3 -c \"import urllib.request as r; print(r.urlopen('http://127.0.0.1:9862/metrics').read().decode())\""
# VLAN, and whether the rule gives MACs.
CONVERGED = {
    "stale": (0, False),
    "steady": (10, True),
    "pair": (0, False),
    "moving": (10, True),
    "no cable": (10, False),
    "plain": (0, False),
    "resetting": (10, True),
    "vepa": (10, True),
    "jumbo": (0, False),
    "small": (0, False),
    "trusted": (0, False),
}
# What status says of a rule that this host cannot follow.
PROBLEMS = {
    "no vectors": "the card has not enough MSI-X vectors or queues",
    "xdp": "a port that is down, an XDP program",
    "no VF driver": "it is bound to nothing afterwards",
    "no IOMMU": "has no IOMMU group",
    "one group": "shares IOMMU group",
    "no 802.1ad": "ixgbe refuses it: EPROTONOSUPPORT",
}


@pytest.fixture(scope="module")
def vm(warm_module: Callable[..., WarmVM]) -> WarmVM:
    extra = labcard_tree() | {"/usr/local/bin/hold-vf": Entry(VF_USER, 0o755)}
    machine = warm_module([], vfagent_tree(policy(), extra, enabled=False))
    load(machine, *CARDS.values())
    machine.run(preparations())
    machine.run("systemctl start vfagent.service", timeout=240)
    return machine


@pytest.fixture(scope="module")
def start(vm: WarmVM) -> dict[str, PfFacts]:
    return started(vm, CASES)


def netdev(pfs: dict[str, PfFacts], name: str) -> str:
    return str(pfs[PFS[name]].links[0]["ifname"])


# What holds once the service is ready.


@pytest.mark.parametrize("name", CONVERGED)
def test_the_vfs_are_as_their_rule_says(start: dict[str, PfFacts], name: str) -> None:
    pf, (vlan, has_mac) = start[PFS[name]], CONVERGED[name]
    assert pf.phase == "converged"
    assert pf.drivers == ["vfio-pci"] * 2
    assert pf.vlans == [vlan] * 2
    assert not has_mac or pf.macs == macs(name, 2)


@pytest.mark.parametrize("name", PROBLEMS)
def test_what_this_host_cannot_do_is_reported_with_its_cause(start: dict[str, PfFacts], name: str) -> None:
    pf = start[PFS[name]]
    assert PROBLEMS[name] in str(pf.status)
    assert set(pf.drivers) <= {""}


@pytest.mark.parametrize("name", ["zero", "impossible"])
def test_a_card_without_sr_iov_is_no_pf(vm: WarmVM, start: dict[str, PfFacts], name: str) -> None:
    assert start[PFS[name]].status is None
    assert f"rule '{name}': waits for a PF that it matches" in vm.run("vfagent status", check=False).stdout


def test_the_host_driver_never_sees_a_vf_of_a_guest(start: dict[str, PfFacts]) -> None:
    own = [name for name in CASES if PFS[name] in start and name not in ("stale", "foreign VLAN")]
    guests = [name for name in own if "vfio-pci" in CASES[name].rule]
    assert {name: start[PFS[name]].counts["vf_probes"] for name in guests} == dict.fromkeys(guests, 0)


def test_only_vfs_of_guests_have_an_override(vm: WarmVM, start: dict[str, PfFacts]) -> None:
    overrides = {name: [vf["override"] for vf in start[PFS[name]].vfs] for name in ("plain", "sibling")}
    assert overrides == {"plain": ["vfio-pci"] * 2, "sibling": ["(null)"] * 2}
    assert start[PFS["sibling"]].drivers == ["labcardvf"] * 2


def test_a_vf_without_settings_in_its_rule_gets_none(vm: WarmVM, start: dict[str, PfFacts]) -> None:
    assert start[PFS["plain"]].counts["sets"] == 0
    assert start[PFS["foreign VLAN"]].vlans == [0, 77]
    assert not [line for line in journal(vm).splitlines() if PFS["plain"] in line and "cannot" in line]


def test_a_vf_that_a_setting_resets_has_it_before_its_driver(start: dict[str, PfFacts]) -> None:
    assert start[PFS["resetting"]].counts["bound_sets"] == 0


def test_a_vf_whose_netdev_is_late_has_the_mac_of_its_rule(start: dict[str, PfFacts]) -> None:
    assert [vf["macs"] for vf in start[PFS["late netdev"]].vfs] == [[mac] for mac in macs("late netdev", 2)]


def test_the_mtu_is_raised_and_never_lowered(start: dict[str, PfFacts]) -> None:
    assert [start[PFS[name]].links[0]["mtu"] for name in ("jumbo", "small")] == [9000, 3000]


@pytest.mark.parametrize("name", ["steady", "vepa"])
def test_the_hwmode_is_set_once_there_are_vfs(start: dict[str, PfFacts], name: str) -> None:
    assert start[PFS[name]].hwmode == "VEPA"
    assert start[PFS[name]].counts["hwmodes_without_vfs"] == 0


@pytest.mark.parametrize("name", ["switchdev", "switchdev ice"])
def test_representors_are_up_in_their_bridge_and_are_not_the_pf(start: dict[str, PfFacts], name: str) -> None:
    pf = start[PFS[name]]
    assert pf.status
    assert (pf.status["phase"], pf.status["eswitch"], pf.status["interface"]) == (
        "converged",
        "switchdev",
        pf.links[0]["ifname"],
    )
    assert [link["phys_port_name"] for link in pf.links] == ["p0", "pf0vf0", "pf0vf1"]
    assert [(link.get("master"), "UP" in link["flags"]) for link in pf.links[1:]] == [("br0", True)] * 2


def test_a_full_fdb_is_reported_and_has_what_it_can_hold(vm: WarmVM, start: dict[str, PfFacts]) -> None:
    vm.run("ip link add tap0 type veth peer name tap1; ip link set tap0 master br1 up; ip link set tap1 up")
    vm.run("for i in 1 2 3; do bridge fdb add 52:54:00:aa:00:0$i dev tap0 master static; done")
    vm.wait_for(lambda: "the card's FDB is full" in str(one(vm, "small FDB").status), 30)
    entries = vm.run(f"bridge fdb show dev {netdev(start, 'small FDB')} ").stdout.splitlines()
    unicast = [entry for entry in entries if "self permanent" in entry and int(entry[:2], 16) % 2 == 0]
    assert len(unicast) == 2


# What somebody or something else does.


def test_a_slow_driver_holds_up_neither_status_nor_metrics_nor_another_pf(
    vm: WarmVM, start: dict[str, PfFacts]
) -> None:
    set_knob(vm, PFS["stale"], "numvfs_ms", 8000)
    reload_with(vm, {"stale": ("vfs = 2", "vfs = 3")})
    vm.wait_for(lambda: one(vm, "stale").phase == "converging", 20)
    vm.run(f"ip link set {netdev(start, 'moving')} vf 1 vlan 99")
    vm.wait_for(f"ip link show {netdev(start, 'moving')} | grep 'vf 1.*vlan 10,'", 6)
    assert "vfagent_pf_vfs" in vm.run(SCRAPE).stdout
    assert one(vm, "stale").phase == "converging"
    set_knob(vm, PFS["stale"], "numvfs_ms", 0)
    await_pf(vm, "stale", lambda pf: pf.drivers == ["vfio-pci"] * 3)


def test_vfs_that_another_program_makes_get_their_settings(vm: WarmVM, start: dict[str, PfFacts]) -> None:
    vm.run(f"echo 2 >{SYSFS}/{PFS['counted later']}/sriov_numvfs")
    later = await_pf(vm, "counted later", lambda pf: pf.drivers == ["vfio-pci"] * 2)
    assert (later.vlans, later.hwmode, later.counts["hwmodes_without_vfs"]) == ([10, 10], "VEPA", 0)


def test_vfs_that_another_program_makes_anew_get_their_settings_back(vm: WarmVM, start: dict[str, PfFacts]) -> None:
    base = f"{SYSFS}/{PFS['steady']}/sriov_numvfs"
    vm.run(f"echo 0 >{base}; echo 2 >{base}")
    steady = await_pf(vm, "steady", lambda pf: pf.drivers == ["vfio-pci"] * 2 and pf.hwmode == "VEPA")
    assert (steady.macs, steady.vlans) == (macs("steady", 2), [10, 10])


def test_what_a_reset_of_the_pf_loses_is_set_again(vm: WarmVM, start: dict[str, PfFacts]) -> None:
    set_knob(vm, PFS["resetting"], "reset", 1)
    resetting = await_pf(vm, "resetting", lambda pf: pf.vlans == [10, 10])
    assert resetting.macs == macs("resetting", 2)


def test_a_vf_that_is_removed_from_the_bus_is_a_problem_that_says_what_to_do(vm: WarmVM) -> None:
    set_knob(vm, PFS["small"], "lose", 1)
    vm.wait_for(lambda: "was removed from the PCI bus" in str(one(vm, "small").status), 30)
    assert one(vm, "small").drivers[0] == "vfio-pci"


def test_settings_go_to_the_pf_by_its_address_when_names_are_swapped(vm: WarmVM, start: dict[str, PfFacts]) -> None:
    first, second = netdev(start, "steady"), netdev(start, "vepa")
    vm.run(f"ip link set {first} name swap; ip link set {second} name {first}; ip link set swap name {second}")
    vm.run(f"ip link set {second} vf 0 vlan 50; ip link set {second} vf 0 mac 52:54:00:00:00:99")
    steady = await_pf(vm, "steady", lambda pf: pf.vlans == [10, 10])
    assert (steady.macs, one(vm, "vepa").macs) == (macs("steady", 2), macs("vepa", 2))


def overflows(vm: WarmVM) -> float:
    """How often the monitor of links has lost events."""
    sample = 'vfagent_monitor_overflows_total{source="rtnetlink"} '
    (line,) = (line for line in vm.run(SCRAPE).stdout.splitlines() if line.startswith(sample))
    return float(line.removeprefix(sample))


def test_events_that_were_lost_are_made_up_for(vm: WarmVM, start: dict[str, PfFacts]) -> None:
    """ENOBUFS: the socket's buffer is full."""
    name, before = netdev(start, "no cable"), overflows(vm)
    vm.run("ip link add noisy up type dummy")  # one that is down sends no RTM_NEWLINK for its alias
    try:
        vm.run("systemctl kill -s STOP vfagent.service")
        vm.run("for i in $(seq 3000); do echo link set noisy alias a$i; done | ip -b -", timeout=120)
        vm.run(f"ip link set {name} vf 0 vlan 60")
    finally:
        vm.run("systemctl kill -s CONT vfagent.service; ip link delete noisy")
    await_pf(vm, "no cable", lambda pf: pf.vlans == [10, 10])
    vm.wait_for(lambda: overflows(vm) > before, 20)


def test_a_host_vf_that_is_bound_anew_keeps_its_settings(vm: WarmVM, start: dict[str, PfFacts]) -> None:
    vf = start[PFS["host"]].vfs[0]["address"]
    name = vm.run(f"ls {SYSFS}/{vf}/net").stdout.strip()
    vm.run(f"cd {SYSFS}/{vf}; name=$(ls net); echo {vf} >driver/unbind; ip link add name $name type dummy")
    vm.run(f"echo {vf} >/sys/bus/pci/drivers/mlx5_core/bind", check=False)  # unless vfagent has done it
    host = await_pf(vm, "host", lambda pf: pf.drivers == ["mlx5_core"] * 2)
    assert (host.vfs[0]["macs"], host.vlans) == (macs("host", 1), [10, 10])
    assert host.status
    assert host.status["vfs"][0]["interface"] == vm.run(f"ls {SYSFS}/{vf}/net").stdout.strip() != name


def test_a_new_iommu_group_is_in_status(vm: WarmVM, start: dict[str, PfFacts]) -> None:
    base = f"{SYSFS}/{PFS['jumbo']}"
    vm.run(f"echo 0 >{base}/sriov_numvfs; echo 1 >{base}/remove")
    plug(vm, f"ice,domain={MANY_DOMAIN}")  # takes the numbers of its groups
    vm.run(f"echo 1 >/sys/bus/pci/rescan; echo {MANY_DOMAIN} >{KNOBS}/remove", timeout=120)
    jumbo = await_pf(vm, "jumbo", lambda pf: pf.drivers == ["vfio-pci"] * 2)
    groups = [int(vf["group"]) for vf in jumbo.vfs]
    assert jumbo.status
    assert [vf["iommu_group"] for vf in jumbo.status["vfs"]] == groups
    assert groups != [int(vf["group"]) for vf in start[PFS["jumbo"]].vfs]


# A new policy, and what it may not change while somebody uses the VF.


@pytest.fixture(scope="module")
def changed(vm: WarmVM, start: dict[str, PfFacts]) -> dict[str, PfFacts]:
    return change_in_use(vm)


def test_settings_follow_the_index_where_more_vfs_have_other_addresses(vm: WarmVM, changed: dict[str, PfFacts]) -> None:
    moving = await_pf(vm, "moving", lambda pf: pf.drivers == ["vfio-pci"] * 4)
    assert moving.vfs[0]["address"] not in [vf["address"] for vf in changed[PFS["moving"]].vfs]
    assert (moving.macs, moving.vlans) == (macs("moving", 4), [10] * 4)
    assert not [line for line in journal(vm).splitlines() if PFS["moving"] in line and "cannot" in line]


def test_a_new_guid_is_read_by_the_driver(vm: WarmVM, changed: dict[str, PfFacts]) -> None:
    guids = await_pf(vm, "guids", lambda pf: pf.settings[0]["node guid"] == "02:00:00:03:00:00:42:00")
    assert guids.drivers == ["mlx5_core"] * 2
    assert guids.counts["vf_probes"] == changed[PFS["guids"]].counts["vf_probes"] + 2


@pytest.mark.parametrize("name", ["vepa", "resetting"])
def test_what_would_reset_a_vf_in_use_waits(vm: WarmVM, changed: dict[str, PfFacts], name: str) -> None:
    vm.wait_for(lambda: one(vm, name).phase == "deferred", 30)
    now, before = one(vm, name), changed[PFS[name]]
    assert (now.hwmode, now.settings[0]) == (before.hwmode, before.settings[0])


@pytest.mark.usefixtures("changed")
def test_what_does_not_reset_a_vf_in_use_is_set_at_once(vm: WarmVM) -> None:
    trusted = await_pf(vm, "trusted", lambda pf: not pf.settings[0]["trust"])
    assert not trusted.settings[1]["trust"]


@pytest.mark.usefixtures("changed")
def test_a_gpu_whose_users_nothing_shows_is_in_use(vm: WarmVM) -> None:
    vm.wait_for(lambda: one(vm, "GPU").phase == "deferred", 30)
    assert "nothing shows whether it is used (assume_idle = true permits it)" in str(one(vm, "GPU").status)
    assert one(vm, "GPU").drivers == ["xe"] * 2


@pytest.mark.usefixtures("changed")
def test_a_vf_with_the_hosts_default_route_is_not_taken(vm: WarmVM) -> None:
    vm.wait_for(lambda: one(vm, "sibling").drivers == ["labcardvf", "vfio-pci"], 30)
    assert one(vm, "sibling").phase == "deferred"


@pytest.fixture(scope="module")
def back(vm: WarmVM, changed: dict[str, PfFacts]) -> None:
    change_back(vm, changed)


@pytest.mark.usefixtures("back")
def test_a_vf_goes_from_a_slow_host_driver_to_vfio_and_back(vm: WarmVM) -> None:
    sibling = await_pf(vm, "sibling", lambda pf: pf.drivers == ["labcardvf"] * 2)
    assert [vf["override"] for vf in sibling.vfs] == ["(null)"] * 2


@pytest.mark.usefixtures("back")
def test_a_gpu_is_taken_where_the_rule_says_that_it_is_idle(vm: WarmVM) -> None:
    await_pf(vm, "GPU", lambda pf: pf.drivers == ["vfio-pci"] * 2)


# The service.


@pytest.mark.long
def test_each_of_230_vfs_is_set_and_read_back(vm: WarmVM) -> None:
    """One answer with counters would have room for 221."""
    plug(vm, f"labcard,vfs=230,domain={MANY_DOMAIN}")
    vm.wait_for(lambda: MANY in (pfs := facts(vm)) and pfs[MANY].phase == "converged", 180)
    many = facts(vm)[MANY]
    assert (len(many.vfs), many.counts["sets"]) == (230, 2 * 230)
    vm.run(f"ip link set {many.links[0]['ifname']} vf 229 vlan 99")
    vm.wait_for(f"ip link show {many.links[0]['ifname']} | grep 'vf 229.*vlan 10,'", 30)


@pytest.mark.long
def test_a_restart_of_the_service_changes_no_vf(vm: WarmVM, start: dict[str, PfFacts]) -> None:
    before = one(vm, "moving")
    vm.run("systemctl restart vfagent.service", timeout=240)
    after = await_pf(vm, "moving", lambda pf: True)
    assert after.vfs == before.vfs
    assert after.counts["sets"] == before.counts["sets"]


def test_an_idle_service_reads_no_vf(vm: WarmVM) -> None:
    reads = f"sleep 3; cat {KNOBS}/{PFS['moving']}/counts/reads"
    assert vm.run(reads).stdout == vm.run(reads).stdout


def test_a_setting_that_was_refused_for_a_while_is_set_without_a_reload(vm: WarmVM, start: dict[str, PfFacts]) -> None:
    assert start[PFS["busy"]].drivers == [""] * 2
    busy = await_pf(vm, "busy", lambda pf: pf.drivers == ["vfio-pci"] * 2)
    assert busy.macs == macs("busy", 2)


def test_a_counter_that_the_driver_lacks_is_absent(vm: WarmVM) -> None:
    counter = "vfagent_vf_receive_packets_total{pf="
    vm.wait_for(f"{SCRAPE} | grep -F '{counter}\"{PFS['jumbo']}'", 30)
    assert f'{counter}"{PFS["no cable"]}' not in vm.run(SCRAPE).stdout


def test_the_kernel_has_nothing_to_warn_of(vm: WarmVM) -> None:
    assert not complaints(vm)
