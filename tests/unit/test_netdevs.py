# SPDX-License-Identifier: Apache-2.0
"""Several netdevs of one PCI function: which is the PF's own, and which one a rule means."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.host.fake_kernel import FakeKernel, FakeRtnl, FakeSysfs
from tests.host.tree import put
from vfagent.kernel.protocols import Host, LinkFacts
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Pf
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import VfSettings, Vlan
from vfagent.plan.steps import ConfigureVf, SetMtu, SetNumvfs
from vfagent.policy.match import HostIdentity
from vfagent.reconcile.observe import observe_pf
from vfagent.reconcile.pf_state import PfState
from vfagent.reconcile.reports import Observed
from vfagent.reconcile.rounds import Task, observe_and_plan
from vfagent.store.policy_files import load
from vfagent.store.state import State

PF = PciAddress("0000:08:00.0")
RULE = '[[pf]]\nname = "card"\nmatch = {{ {match} }}\nvfs = {vfs}\nmtu = 9000\n[[pf.vf]]\nindex = "*"\nvlan = 20\n'


class Machine:
    """A PF whose driver has made no netdev yet."""

    def __init__(self, root: Path, *, vfs: int = 2) -> None:
        self.kernel = FakeKernel(root)
        self.tree = self.kernel.tree
        self.tree.add_pf(PF, vfs=vfs, driver="nfp")
        self.tree.add_device(PF, **{"class": "0x020000"})

    def add(self, name: str, *, port: int = 0, port_name: str = "", **files: str) -> int:
        ifindex = self.tree.add_netdev(name, PF)
        folder = self.tree.device(PF) / "net" / name
        for file, text in ({"dev_port": str(port), "phys_port_name": port_name} | files).items():
            if text:
                put(folder / file, f"{text}\n")
        return ifindex

    def pf(self, host: Host | None = None) -> Pf:
        pf = observe_pf(host or self.kernel.host, PF)
        assert pf is not None
        return pf

    def plan(self, match: str, *, vfs: int = 2, host: Host | None = None) -> Observed:
        self.tree.policy(RULE.format(match=match, vfs=vfs))
        task = Task(PF, load(self.tree.root), HostIdentity("host", "0" * 32))
        return observe_and_plan(task, host or self.kernel.host, State(self.tree.root), DriverState())


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def two_ports(machine: Machine) -> Machine:
    """As nfp and mlx4 make them. Both names and their order are what an administrator made of them."""
    machine.add("lan", port=1)
    machine.add("storage", port=0)
    return machine


def own_and_others(pf: Pf) -> list[str]:
    return [netdev.name for netdev in pf.netdevs]


def configured(observed: Observed) -> set[int]:
    return {planned.step.ifindex for planned in observed.plan.steps if isinstance(planned.step, ConfigureVf | SetMtu)}


def test_of_two_ports_the_first_is_the_pfs_whatever_its_name(two_ports: Machine) -> None:
    assert own_and_others(two_ports.pf()) == ["storage", "lan"]


@pytest.mark.parametrize("uplink", ["p0", "uplink0", "zz"])
def test_on_a_dpu_the_uplink_is_the_pfs_netdev(machine: Machine, uplink: str) -> None:
    machine.add("pf0hpf", port_name="c1pf0")
    machine.add("pf0vf0", port_name="pf0vf0")
    machine.add("en3f0pf0sf88", port_name="pf0sf88")
    machine.add(uplink, port_name="p0")
    assert own_and_others(machine.pf()) == [uplink, "pf0hpf"]


def test_a_pkey_child_is_not_taken_for_its_ipoib_parent(machine: Machine) -> None:
    machine.add("ib0")
    machine.add("a.8001")
    assert own_and_others(machine.pf()) == ["ib0", "a.8001"]


def test_representors_alone_are_not_the_pfs(machine: Machine) -> None:
    machine.add("pf0vf0", port_name="pf0vf0")
    machine.add("pf0vf1", port_name="pf0vf1")
    assert machine.pf().netdev is None


@pytest.mark.parametrize("match", ['interface = "lan"', 'interface = "la*"', 'mac = "02:00:00:00:00:01"'])
def test_a_rule_that_names_the_second_port_sets_vfs_and_mtu_through_it(two_ports: Machine, match: str) -> None:
    observed = two_ports.plan(match)
    assert observed.pf is not None
    assert own_and_others(observed.pf) == ["lan", "storage"]
    assert configured(observed) == {1}


def test_a_rule_that_names_no_port_sets_vfs_through_the_first_and_says_so(two_ports: Machine) -> None:
    observed = two_ports.plan('driver = "nfp"')
    assert configured(observed) == {2}
    assert "storage has what the rule sets; this PF has lan, too (match.interface names another)" in observed.plan.notes


def test_a_rule_may_name_the_representor_of_a_dpus_host_but_sets_nothing_through_it(machine: Machine) -> None:
    machine.add("pf0hpf", port_name="pf0")
    uplink = machine.add("p0", port_name="p0")
    observed = machine.plan('interface = "pf0hpf"')
    assert configured(observed) == {uplink}


class PerPort(FakeRtnl):
    """mlx4_set_vf_vlan() and its like are of one port."""

    def link(self, ifindex: int, *, vfs: bool) -> LinkFacts | None:
        facts = super().link(ifindex, vfs=vfs)
        settings = {index: VfSettings(vlan=Vlan(20 if ifindex == 1 else 0)) for index in range(2)}
        return replace(facts, vfs=settings if vfs else {}) if facts else None


def test_the_settings_of_the_rules_port_are_compared(two_ports: Machine) -> None:
    host = two_ports.kernel.host
    host = replace(host, rtnl=PerPort(FakeSysfs(two_ports.kernel)))
    steps = [planned.step for planned in two_ports.plan('interface = "lan"', host=host).plan.steps]
    assert not any(isinstance(step, ConfigureVf) for step in steps)
    steps = [planned.step for planned in two_ports.plan('interface = "storage"', host=host).plan.steps]
    assert any(isinstance(step, ConfigureVf) for step in steps)


class Administered(FakeRtnl):
    """The second port carries the default route."""

    def management(self) -> dict[int, str]:
        return {1: "carries the default route"}


def test_a_second_port_that_administers_the_host_defers_a_change_of_the_count(two_ports: Machine) -> None:
    put(two_ports.tree.root / "sys/class/net/lan/flags", "0x1003\n")
    host = two_ports.kernel.host
    plan = two_ports.plan(
        'interface = "storage"', vfs=4, host=replace(host, rtnl=Administered(FakeSysfs(two_ports.kernel)))
    ).plan
    assert not any(isinstance(planned.step, SetNumvfs) for planned in plan.steps)
    (deferred,) = [item for item in plan.deferred if isinstance(item.step, SetNumvfs)]
    assert deferred.blocker.startswith("lan carries the default route")


def test_a_link_event_of_the_second_port_concerns_the_pf(two_ports: Machine) -> None:
    state = PfState(PF)
    state.take(two_ports.plan('interface = "storage"'))
    assert {1, 2} <= state.observed.ifindexes


def test_a_rule_for_the_other_port_keeps_the_baseline(two_ports: Machine) -> None:
    state = State(two_ports.tree.root)
    first, second = two_ports.plan('interface = "lan"').pf, two_ports.plan('interface = "storage"').pf
    assert first
    assert second
    state.keep_baseline(first)
    state.keep_baseline(replace(second, totalvfs=99))
    baseline = state.baseline(PF)
    assert baseline is not None
    assert baseline.pf.totalvfs != 99
    assert baseline.is_of(two_ports.pf())


def test_the_baseline_tells_which_port_a_release_sets_back(two_ports: Machine) -> None:
    state = State(two_ports.tree.root)
    before = two_ports.plan('interface = "lan"').pf
    assert before is not None
    state.keep_baseline(before)
    put(two_ports.tree.root / "sys/class/net/lan/mtu", "9000\n")
    baseline = state.baseline(PF)
    assert baseline is not None
    assert baseline.port(two_ports.pf()) == 1
