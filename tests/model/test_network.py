# SPDX-License-Identifier: Apache-2.0
"""VLAN devices, bridges, addresses, FDB and hwmode, on every host and policy, with a kill at every effect."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model import ledger
from tests.model.agent import Agent
from tests.model.budget import examples
from tests.model.devices import PfDevice
from tests.model.drivers import I40E, IGB, PfDriver
from tests.model.hosts import Port, make_host
from tests.model.kernel import Kernel
from tests.model.process import Kill
from vfagent.model.network import MANAGED_ALIAS, Link, Route, VlanTag
from vfagent.plan.steps import DeleteLink, MoveAddresses, RemoveAddress
from vfagent.policy.types import BridgeRule, HwMode, PfMatch, PfRule, Policy, VfCount, VlanRule

ADDRESS, OTHER, GATEWAY = "192.168.10.1/24", "192.168.10.2/24", "192.168.10.254"
DEFAULT = Route(2, None, GATEWAY, 254)
TAG = VlanTag(10)


@dataclass(frozen=True, slots=True)
class Before:
    """What others made of the host before vfagent."""

    bridge: bool = False  # virbr0 is somebody's
    user: str | None = None  # who has ADDRESS
    routed: bool = False  # and the default route goes by it
    answering: bool = True
    kind: PfDriver = IGB
    vfs: int = 2


@st.composite
def hosts(draw: st.DrawFn) -> Before:
    bridge = draw(st.booleans())
    user = draw(st.sampled_from((None, "lan0", "virbr0") if bridge else (None, "lan0")))
    routed = draw(st.booleans()) if user else False
    kind = draw(st.sampled_from((IGB, I40E)))
    return Before(bridge, user, routed, draw(st.booleans()), kind)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    bridge = draw(st.sampled_from((None, "virbr0")))
    borrowed = draw(st.sampled_from((None, "lan0", "virbr0")))
    vlan_interfaces = draw(st.integers(0, 2))
    probe = GATEWAY if borrowed and draw(st.booleans()) else None
    vlan = VlanRule(
        id=draw(st.sampled_from((10, 20))),
        name="vlan10",
        bridge=bridge,
        mtu=draw(st.sampled_from((None, 1400))),
        addresses=(ADDRESS,) if borrowed else draw(st.sampled_from(((), (ADDRESS,), (OTHER,)))),
        take_addresses_from=borrowed,
        probe=probe,
        allow_management=draw(st.booleans()),
    )
    second = VlanRule(id=30, name="vlan30")
    made = (BridgeRule(name="virbr0", vlan_filtering=draw(st.booleans())),) if draw(st.booleans()) else ()
    hwmode = draw(st.sampled_from((None, HwMode.VEPA)))
    rule = PfRule(
        name="rule",
        match=PfMatch(pci="*"),
        vfs=VfCount(number=draw(st.sampled_from((2, 3)))),
        hwmode=hwmode,
        vlan=(vlan, second)[:vlan_interfaces],
    )
    return Policy(pf=(rule,), bridge=made, digest="read")


def make(before: Before) -> tuple[Kernel, PfDevice]:
    kernel = make_host((Port(before.kind, vfs=before.vfs),))
    links = kernel.links
    links.add(Link("lan0", 0, kind="dummy", admin_up=True))
    if before.bridge:
        links.add(replace(links.add_bridge("seed"), name="virbr0", admin_up=True, mac="02:00:00:00:ff:01"))
        links.delete(links.made["seed"].ifindex)
    if before.user:
        ifindex = links.made[before.user].ifindex
        links.add_address(ifindex, ADDRESS, managed=False)
        if before.routed:
            links.put_route(ifindex, DEFAULT)
    if before.answering:
        links.reachable |= {(name, GATEWAY) for name in ("vlan10", "virbr0", "lan0")}
    (pf,) = kernel.present()
    return kernel, pf


def state(kernel: Kernel) -> object:
    """All of the network, less what numbers and MACs were given out."""
    links, names = kernel.links, {link.ifindex: link.name for link in kernel.links.made.values()}
    plain = [replace(link, ifindex=0, mac="", lower=None, master=None) for link in links.made.values()]
    masters = sorted((link.name, names.get(link.master or 0, "")) for link in links.made.values())
    held = sorted((names[at], text) for at, found in links.held.items() for text in found)
    routes = sorted((names[at], one) for at, found in links.routes.items() for one in found)
    return sorted(plain, key=lambda link: link.name), masters, held, routes, dict(links.journal)


def foreign(kernel: Kernel) -> object:
    """What vfagent did not make, and must leave as it is."""
    return sorted(
        (link for link in kernel.links.made.values() if link.alias != MANAGED_ALIAS), key=lambda link: link.name
    )


def addresses_of_ours(kernel: Kernel) -> list[str]:
    return sorted(one.text for held in kernel.links.addresses().values() for one in held if one.managed)


@given(before=hosts(), policy=policies())
@examples(150)
def test_a_host_s_network_converges_and_then_rests(before: Before, policy: Policy) -> None:
    ledger.counted["histories"] += 1
    kernel, pf = make(before)
    others = foreign(kernel)
    agent = Agent(kernel, policy)
    run = agent.settle(pf.address)
    again = agent.converge(pf.address)
    assert foreign(kernel) == others
    assert not any(one.managed for one in kernel.links.addresses().get(kernel.links.made["lan0"].ifindex, ()))
    if run.failures:
        assert not kernel.links.journal
        assert all("does not answer" in failure.text for failure in run.failures)
        return
    assert not again.done
    assert not again.plan.steps
    if again.plan.settled:
        _check_as_asked(kernel, policy)


def _check_as_asked(kernel: Kernel, policy: Policy) -> None:
    links = kernel.links
    for vlan in policy.pf[0].vlan:
        link = links.made[vlan.name]
        assert link.vlan == VlanTag(vlan.id)
        assert link.admin_up
        assert link.master == (links.made[vlan.bridge].ifindex if vlan.bridge else None)
        for address in vlan.addresses:
            assert links.holders(address) == [vlan.bridge or vlan.name]
    assert not links.journal


@given(before=hosts(), policy=policies(), after=st.none() | policies())
@examples(40)
def test_after_a_kill_at_any_effect_addresses_are_where_the_policy_says_or_where_they_were(
    before: Before, policy: Policy, after: Policy | None
) -> None:
    kernel, pf = make(before)
    agent = Agent(kernel, policy)
    count = len(agent.converge(pf.address).done)
    agent.policy = after or policy
    agent.settle(pf.address)
    for kill in (Kill(number, after=late) for number in range(count) for late in (False, True)):
        ledger.counted["histories"] += 1
        kernel, pf = make(before)
        agent = Agent(kernel, policy)
        agent.converge(pf.address, kill=kill)
        if before.user:
            assert kernel.links.holders(ADDRESS), kill
        agent.restart(forget=False)
        agent.policy = after or policy
        run = agent.settle(pf.address)
        assert not kernel.links.journal, kill
        assert len(kernel.links.holders(ADDRESS)) <= 1, kill
        if before.user and after is None:
            assert kernel.links.holders(ADDRESS), kill
        if before.routed and kernel.links.holders(ADDRESS):
            assert [kernel.links.route_by(DEFAULT)] == kernel.links.holders(ADDRESS), kill
        if not run.failures:
            assert not agent.converge(pf.address).done, kill


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("number", range(14))
def test_killed_in_a_move_whose_rule_then_goes_all_is_back_where_it_was(number: int, *, late: bool) -> None:
    kernel, pf = make(Before(user="lan0", routed=True))
    agent = Agent(kernel, _policy(take_addresses_from="lan0", allow_management=True))
    agent.converge(pf.address, kill=Kill(number, after=late))
    begun = bool(kernel.links.journal)
    agent.restart(forget=False)
    agent.policy = Policy(digest="read")
    agent.settle(pf.address)
    assert not kernel.links.journal
    assert kernel.links.holders(ADDRESS) == [kernel.links.route_by(DEFAULT)]
    assert kernel.links.holders(ADDRESS) == ["lan0"] or not begun


@given(before=hosts(), policy=policies())
@examples(60)
def test_with_the_rules_gone_only_what_vfagent_made_goes(before: Before, policy: Policy) -> None:
    ledger.counted["histories"] += 1
    kernel, pf = make(before)
    others = foreign(kernel)
    agent = Agent(kernel, policy)
    agent.settle(pf.address)
    agent.policy = Policy(bridge=policy.bridge, digest="read")
    run = agent.settle(pf.address)
    assert foreign(kernel) == others
    assert all(one.blocker for one in run.plan.deferred)
    left = [name for name in kernel.links.managed() if kernel.links.made[name].kind == "vlan"]
    steps = [one.step for one in run.plan.deferred]
    assert left == [step.name for step in steps if isinstance(step, DeleteLink)]
    assert addresses_of_ours(kernel) == [one for step in steps for one in _addresses_of(step)]
    if before.user and not steps:
        assert kernel.links.holders(ADDRESS) == [before.user]
        assert kernel.links.route_by(DEFAULT) == (before.user if before.routed else None)


def test_an_address_that_may_not_go_yet_is_not_forgotten_with_its_leg() -> None:
    """On somebody's bridge, which carries the default route by now."""
    kernel, pf = make(Before(bridge=True, user="virbr0", routed=True))
    (rule,) = _policy().pf
    vlan_interface = replace(rule.vlan[0], addresses=("192.168.10.2/24",))
    agent = Agent(kernel, Policy(pf=(replace(rule, vlan=(vlan_interface,)),), digest="read"))
    agent.settle(pf.address)
    agent.policy = Policy(digest="read")
    agent.settle(pf.address)
    (late,) = agent.settle(pf.address).plan.deferred
    assert late.blocker == "virbr0 carries the default route"


def _addresses_of(step: object) -> tuple[str, ...]:
    match step:
        case RemoveAddress():
            return (step.address,)
        case MoveAddresses():
            return step.move.addresses
        case _:
            return ()


def test_without_a_policy_that_could_be_read_nothing_is_taken_away() -> None:
    kernel, pf = make(Before())
    agent = Agent(kernel, _policy())
    agent.settle(pf.address)
    before = state(kernel)
    agent.policy = Policy()
    assert not agent.settle(pf.address).done
    assert state(kernel) == before


def _policy(hwmode: HwMode | None = None, **more: Any) -> Policy:
    vlan = VlanRule(id=10, name="vlan10", bridge="virbr0", addresses=(ADDRESS,), **more)
    rule = PfRule(name="rule", match=PfMatch(pci="*"), vfs=VfCount(number=2), hwmode=hwmode, vlan=(vlan,))
    return Policy(pf=(rule,), bridge=(BridgeRule(name="virbr0"),), digest="read")


def test_the_card_learns_the_bridge_and_its_local_ports_and_forgets_what_left() -> None:
    kernel, pf = make(Before(bridge=True, kind=IGB))
    links, agent = kernel.links, Agent(kernel, _policy())
    tap = links.add(Link("vnet0", 0, kind="tun"))
    uplink = links.add(Link("bond0", 0, kind="bond"))
    bridge = links.made["virbr0"]
    links.learnt[bridge.ifindex] = {(tap.ifindex, "52:54:00:00:00:01"), (uplink.ifindex, "52:54:00:00:00:02")}
    agent.settle(pf.address)
    assert pf.netdev is not None
    assert links.fdb[pf.netdev.ifindex] == {bridge.mac, "52:54:00:00:00:01"}
    links.fdb[pf.netdev.ifindex].add("02:00:00:00:00:99")  # somebody's own
    links.learnt.clear()
    agent.restart(forget=False)
    agent.settle(pf.address)
    assert links.fdb[pf.netdev.ifindex] == {bridge.mac, "02:00:00:00:00:99"}


def _without_legs() -> Policy:
    policy = _policy()
    return replace(policy, pf=tuple(replace(rule, vlan=()) for rule in policy.pf))


@pytest.mark.parametrize("after", [_without_legs(), Policy(digest="read"), None], ids=["leg", "rule", "release"])
def test_what_the_card_was_told_is_taken_back_with_what_it_was_told_for(after: Policy | None) -> None:
    kernel, pf = make(Before(bridge=True, kind=IGB))
    agent = Agent(kernel, _policy())
    agent.settle(pf.address)
    assert pf.netdev is not None
    entries = kernel.links.fdb[pf.netdev.ifindex]
    assert entries == {kernel.links.made["virbr0"].mac}
    entries.add("02:00:00:00:00:99")  # somebody's own
    agent.restart(forget=False)
    if after is None:
        agent.release(pf.address)
    else:
        agent.policy = after
        agent.settle(pf.address)
    assert entries == {"02:00:00:00:00:99"}


def test_a_full_table_leaves_the_card_converged_with_a_note() -> None:
    kernel, pf = make(Before(bridge=True, kind=I40E))
    links, agent = kernel.links, Agent(kernel, _policy())
    tap, bridge = links.add(Link("vnet0", 0, kind="tun")), links.made["virbr0"]
    links.learnt[bridge.ifindex] = {(tap.ifindex, f"52:54:00:00:00:{number:02x}") for number in range(6)}
    run = agent.settle(pf.address)
    assert not run.failures
    assert run.plan.settled
    assert "the card's FDB is full: VFs cannot reach 4 MACs of local bridge ports" in run.plan.notes
    assert pf.netdev is not None
    assert bridge.mac in links.fdb[pf.netdev.ifindex]


def test_hwmode_comes_back_when_the_vfs_do() -> None:
    kernel, pf = make(Before(kind=I40E))
    agent = Agent(kernel, _policy(hwmode=HwMode.VEPA))
    agent.settle(pf.address)
    assert pf.hwmode == "vepa"
    kernel.write_numvfs(pf, "0")
    assert pf.hwmode == "veb"
    agent.settle(pf.address)
    assert (len(pf.vfs), pf.hwmode) == (2, "vepa")


def test_hwmode_is_left_alone_while_a_guest_uses_a_vf() -> None:
    kernel, pf = make(Before(kind=I40E))
    agent = Agent(kernel, _policy())
    agent.settle(pf.address)
    pf.vfs[0].driver, pf.vfs[0].netdev, pf.vfs[0].held = "vfio-pci", None, True
    agent.policy = _policy(hwmode=HwMode.VEPA)
    run = agent.settle(pf.address)
    assert pf.hwmode == "veb"
    assert [one.step.describe() for one in run.plan.deferred if "hwmode" in one.step.describe()]


def test_a_card_without_hwmode_is_converged_with_one_note() -> None:
    kernel, pf = make(Before(kind=IGB))
    run = Agent(kernel, _policy(hwmode=HwMode.VEPA)).settle(pf.address)
    assert run.plan.settled
    assert run.plan.notes == ("hwmode is not supported by igb",)
