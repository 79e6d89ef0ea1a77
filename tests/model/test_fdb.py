# SPDX-License-Identifier: Apache-2.0
"""The PF's FDB and the bridges above the PF, on the fake kernel."""

import errno
from dataclasses import replace

import pytest

from tests.model.agent import Agent
from tests.model.devices import PfDevice
from tests.model.drivers import I40E, IGB
from tests.model.effects import Kind
from tests.model.kernel import Kernel
from tests.model.network_views import NetworkView
from tests.model.process import Fault
from tests.model.test_network import Before, foreign, make, policy_with_vlan_interface
from vfagent.model.network import Link, VlanTag
from vfagent.model.status import MOST_ATTEMPTS
from vfagent.plan.local_macs import MOST_PER_PORT
from vfagent.policy.types import FdbMode, PfMatch, PfRule, Policy, VfCount
from vfagent.reconcile.rounds import Suspended

GUEST, TARGET = "52:54:00:00:00:01", "02:00:00:00:00:77"
LAYOUTS = ("pf", "vlan", "bond", "vlan on a bond")


def bridge_only(fdb: FdbMode = FdbMode.AUTO) -> Policy:
    """A rule that knows nothing of the bridge."""
    rule = PfRule(name="rule", match=PfMatch(pci="*"), vfs=VfCount(number=2), fdb=fdb)
    return Policy(pf=(rule,), digest="read")


def bridge_on(port: str) -> tuple[Kernel, PfDevice]:
    """A host with the foreign bridge virbr0 on this port: the PF, a foreign VLAN interface on it, or a bond of it."""
    kernel, pf = make(Before(bridge=True, kind=IGB))
    links, netdev = kernel.links, pf.netdev
    assert netdev is not None
    bridge = links.created["virbr0"].ifindex
    match port:
        case "pf":
            netdev.master = "virbr0"
        case "vlan":
            links.change(links.add_vlan("eno1.20", netdev.ifindex, VlanTag(20)).ifindex, master=bridge)
        case "bond":
            netdev.master = links.add(Link("bond0", 0, kind="bond", master=bridge)).name
        case "vlan on a bond":
            bond = links.add(Link("bond0", 0, kind="bond"))
            netdev.master = bond.name
            links.change(links.add_vlan("bond0.20", bond.ifindex, VlanTag(20)).ifindex, master=bridge)
    tap = links.add(Link("tap100i0", 0, kind="tun", master=bridge))
    links.learnt[bridge] = {(tap.ifindex, GUEST), (netdev.ifindex, "52:54:00:00:00:02")}
    return kernel, pf


def entries_of(kernel: Kernel, pf: PfDevice) -> set[str]:
    assert pf.netdev is not None
    return kernel.links.fdb.get(pf.netdev.ifindex, set())


@pytest.mark.parametrize("port", LAYOUTS)
def test_the_fdb_follows_a_foreign_bridge_above_the_pf(port: str) -> None:
    kernel, pf = bridge_on(port)
    before = foreign(kernel)
    agent = Agent(kernel, bridge_only())
    agent.settle(pf.address)
    assert entries_of(kernel, pf) == {kernel.links.created["virbr0"].mac, GUEST}
    assert not agent.converge(pf.address).done
    kernel.links.learnt.clear()
    agent.restart(forget=False)
    agent.settle(pf.address)
    assert entries_of(kernel, pf) == {kernel.links.created["virbr0"].mac}
    assert foreign(kernel) == before


@pytest.mark.parametrize(
    "after", [bridge_only(FdbMode.OFF), Policy(digest="read"), None], ids=["off", "rule", "release"]
)
def test_a_rule_that_wants_no_fdb_any_more_gets_its_entries_removed(after: Policy | None) -> None:
    kernel, pf = bridge_on("pf")
    agent = Agent(kernel, bridge_only())
    agent.settle(pf.address)
    entries_of(kernel, pf).add("02:00:00:00:00:99")  # foreign
    agent.restart(forget=False)
    if after is None:
        agent.release(pf.address)
    else:
        agent.policy = after
        agent.settle(pf.address)
    assert entries_of(kernel, pf) == {"02:00:00:00:00:99"}


def _tap(kernel: Kernel, name: str) -> int:
    links = kernel.links
    return (links.created.get(name) or links.add(Link(name, 0, kind="tun"))).ifindex


def _sends(kernel: Kernel, tap: str, *macs: str) -> None:
    """The bridge has each MAC at one port only: the one it came from last."""
    bridge = kernel.links.created["virbr0"].ifindex
    known = kernel.links.learnt[bridge]
    known -= {entry for entry in known if entry[1] in macs}
    known |= {(_tap(kernel, tap), mac) for mac in macs}


@pytest.mark.parametrize("through", ["virbr0", "eno1.30"])
def test_a_guest_that_sends_with_the_mac_of_the_storage_target_does_not_get_it(through: str) -> None:
    """The target is a neighbour of the host, through the guest's bridge or on another network of the PF."""
    kernel, pf = bridge_on("pf")
    links, netdev = kernel.links, pf.netdev
    assert netdev is not None
    links.add_vlan("eno1.30", netdev.ifindex, VlanTag(30))
    links.neighbour_macs[links.created[through].ifindex] = {TARGET}
    links.learnt[links.created["virbr0"].ifindex].add((netdev.ifindex, TARGET))
    agent = Agent(kernel, bridge_only())
    agent.settle(pf.address)
    _sends(kernel, "tap100i0", TARGET)
    agent.restart(forget=False)
    run = agent.settle(pf.address)
    assert entries_of(kernel, pf) == {links.created["virbr0"].mac, GUEST}
    assert run.plan.settled
    assert f"tap100i0 uses {TARGET}, the MAC of a host on the wire: VFs reach it only there" in run.plan.notes


def test_a_guest_that_is_a_neighbour_of_the_host_is_no_host_on_the_wire() -> None:
    kernel, pf = bridge_on("pf")
    kernel.links.neighbour_macs[kernel.links.created["virbr0"].ifindex] = {GUEST}
    agent = Agent(kernel, bridge_only())
    agent.settle(pf.address)
    assert GUEST in entries_of(kernel, pf)
    assert not agent.converge(pf.address).done


def test_a_guest_that_floods_the_bridge_makes_few_steps_and_displaces_nobody() -> None:
    kernel, pf = bridge_on("pf")
    agent = Agent(kernel, bridge_only())
    _sends(kernel, "tap200i0", "52:54:00:00:00:09")
    agent.settle(pf.address)
    _sends(kernel, "tap100i0", *(f"06:00:00:00:{number >> 8:02x}:{number & 255:02x}" for number in range(3000)))
    run = agent.settle(pf.address)
    assert len(entries_of(kernel, pf)) == 1 + MOST_PER_PORT + 1
    assert {GUEST, "52:54:00:00:00:09"} <= entries_of(kernel, pf)
    assert run.plan.settled
    assert (
        f"more than {MOST_PER_PORT} MACs are behind tap100i0: VFs reach only {MOST_PER_PORT} of them" in run.plan.notes
    )
    assert not agent.converge(pf.address).done


def test_the_fdb_follows_the_bridge_and_its_local_ports() -> None:
    kernel, pf = make(Before(bridge=True, kind=IGB))
    links, agent = kernel.links, Agent(kernel, policy_with_vlan_interface())
    tap = links.add(Link("vnet0", 0, kind="tun"))
    uplink = links.add(Link("bond0", 0, kind="bond"))
    bridge = links.created["virbr0"]
    links.learnt[bridge.ifindex] = {(tap.ifindex, "52:54:00:00:00:01"), (uplink.ifindex, "52:54:00:00:00:02")}
    agent.settle(pf.address)
    assert pf.netdev is not None
    assert links.fdb[pf.netdev.ifindex] == {bridge.mac, "52:54:00:00:00:01"}
    links.fdb[pf.netdev.ifindex].add("02:00:00:00:00:99")  # foreign
    links.learnt.clear()
    agent.restart(forget=False)
    agent.settle(pf.address)
    assert links.fdb[pf.netdev.ifindex] == {bridge.mac, "02:00:00:00:00:99"}


def _without_vlan_interfaces() -> Policy:
    policy = policy_with_vlan_interface()
    return replace(policy, pf=tuple(replace(rule, vlan=()) for rule in policy.pf))


@pytest.mark.parametrize(
    "after", [_without_vlan_interfaces(), Policy(digest="read"), None], ids=["vlan interface", "rule", "release"]
)
def test_fdb_entries_are_removed_with_their_vlan_interface(after: Policy | None) -> None:
    kernel, pf = make(Before(bridge=True, kind=IGB))
    agent = Agent(kernel, policy_with_vlan_interface())
    agent.settle(pf.address)
    assert pf.netdev is not None
    entries = kernel.links.fdb[pf.netdev.ifindex]
    assert entries == {kernel.links.created["virbr0"].mac}
    entries.add("02:00:00:00:00:99")  # foreign
    agent.restart(forget=False)
    if after is None:
        agent.release(pf.address)
    else:
        agent.policy = after
        agent.settle(pf.address)
    assert entries == {"02:00:00:00:00:99"}


def test_a_full_fdb_is_a_note_and_the_pf_is_converged() -> None:
    kernel, pf = make(Before(bridge=True, kind=I40E))
    links, agent = kernel.links, Agent(kernel, policy_with_vlan_interface())
    tap, bridge = links.add(Link("vnet0", 0, kind="tun")), links.created["virbr0"]
    links.learnt[bridge.ifindex] = {(tap.ifindex, f"52:54:00:00:00:{number:02x}") for number in range(6)}
    run = agent.settle(pf.address)
    assert not run.failures
    assert run.plan.settled
    assert "the card's FDB is full: VFs cannot reach 4 MACs of local bridge ports" in run.plan.notes
    assert pf.netdev is not None
    assert bridge.mac in links.fdb[pf.netdev.ifindex]


def _refuses(kind: Kind, failure: int) -> Fault:
    return lambda at, effect: failure if effect.kind is kind else 0


@pytest.mark.parametrize("failure", [errno.EINVAL, errno.EBUSY, errno.EIO, errno.ENODEV])
def test_a_card_that_refuses_fdb_entries_is_a_note_and_no_failure(failure: int) -> None:
    kernel, pf = bridge_on("pf")
    agent = Agent(kernel, bridge_only())
    for _ in range(MOST_ATTEMPTS + 1):
        run = agent.converge(pf.address, fault=_refuses(Kind.FDB, failure))
        assert not run.failures
        assert run.plan.settled
        (note,) = run.plan.notes
        assert note.startswith(f"the card refuses FDB entries ({errno.errorcode[failure]}")
        assert note.endswith("VFs cannot reach 2 MACs of local bridge ports")
    agent.converge(pf.address)
    assert GUEST in entries_of(kernel, pf)


@pytest.mark.parametrize("failure", [errno.EBUSY, errno.EIO])
def test_an_entry_that_the_card_does_not_give_back_stays_vfagents_own(failure: int) -> None:
    kernel, pf = bridge_on("pf")
    agent = Agent(kernel, bridge_only())
    agent.settle(pf.address)
    kernel.links.learnt.clear()
    run = agent.converge(pf.address, fault=_refuses(Kind.FDB, failure))
    assert run.plan.settled
    assert GUEST in entries_of(kernel, pf)
    agent.converge(pf.address)
    assert GUEST not in entries_of(kernel, pf)


def test_a_card_that_takes_entries_and_does_not_have_them_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, pf = bridge_on("pf")
    monkeypatch.setattr(NetworkView, "_add_fdb", lambda self, ifindex, mac: None)
    run = Agent(kernel, bridge_only()).converge(pf.address)
    assert not run.failures
    assert run.plan.settled
    assert "the card refuses FDB entries (it accepted them, and does not have them)" in run.plan.notes[0]


def test_the_fdb_follows_its_bridge_while_the_rest_of_the_plan_is_suspended() -> None:
    kernel, pf = bridge_on("pf")
    agent = Agent(kernel, bridge_only())
    agent.settle(pf.address)
    (rule,) = bridge_only().pf
    agent.policy = Policy(pf=(replace(rule, mtu=9000),), digest="read")
    failing = _refuses(Kind.MTU, errno.EIO)
    run = agent.converge(pf.address, fault=failing)
    agent.suspended = Suspended(run.plan.steps, run.plan.steps)
    _sends(kernel, "tap100i0", "52:54:00:00:00:05")
    run = agent.converge(pf.address, fault=failing)
    assert not run.failures
    assert "52:54:00:00:00:05" in entries_of(kernel, pf)
    assert [planned.step.KIND for planned in run.plan.steps] == ["set_mtu"]
