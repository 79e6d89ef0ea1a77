# SPDX-License-Identifier: Apache-2.0
"""VLAN interfaces, bridges, addresses, FDB and hwmode, on any host with any policy, with a kill at every effect."""

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
from vfagent.plan.network_steps import DeleteLink, MoveAddresses, RemoveAddress
from vfagent.policy.types import BridgeRule, HwMode, PfMatch, PfRule, Policy, VfCount, VlanRule

ADDRESS, OTHER, GATEWAY = "192.168.10.1/24", "192.168.10.2/24", "192.168.10.254"
DEFAULT = Route(2, None, GATEWAY, 254)
TAG = VlanTag(10)


@dataclass(frozen=True, slots=True)
class Before:
    """The host's network before vfagent."""

    bridge: bool = False  # virbr0 exists and is foreign
    user: str | None = None  # the interface with ADDRESS
    routed: bool = False  # the default route goes through that interface
    answering: bool = True  # GATEWAY answers a probe
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
    bridges = (BridgeRule(name="virbr0", vlan_filtering=draw(st.booleans())),) if draw(st.booleans()) else ()
    hwmode = draw(st.sampled_from((None, HwMode.VEPA)))
    rule = PfRule(
        name="rule",
        match=PfMatch(pci="*"),
        vfs=VfCount(number=draw(st.sampled_from((2, 3)))),
        hwmode=hwmode,
        vlan=(vlan, second)[:vlan_interfaces],
    )
    return Policy(pf=(rule,), bridge=bridges, digest="read")


def make(before: Before) -> tuple[Kernel, PfDevice]:
    kernel = make_host((Port(before.kind, vfs=before.vfs),))
    links = kernel.links
    links.add(Link("lan0", 0, kind="dummy", admin_up=True))
    if before.bridge:
        links.add(replace(links.add_bridge("seed"), name="virbr0", admin_up=True, mac="02:00:00:00:ff:01"))
        links.delete(links.created["seed"].ifindex)
    if before.user:
        ifindex = links.created[before.user].ifindex
        links.add_address(ifindex, ADDRESS, managed=False)
        if before.routed:
            links.put_route(ifindex, DEFAULT)
    if before.answering:
        links.reachable |= {(name, GATEWAY) for name in ("vlan10", "virbr0", "lan0")}
    (pf,) = kernel.present()
    return kernel, pf


def state(kernel: Kernel) -> object:
    """The whole network, without ifindexes and MACs."""
    links, names = kernel.links, {link.ifindex: link.name for link in kernel.links.created.values()}
    plain = [replace(link, ifindex=0, mac="", lower=None, master=None) for link in links.created.values()]
    masters = sorted((link.name, names.get(link.master or 0, "")) for link in links.created.values())
    addresses = sorted((names[ifindex], text) for ifindex, texts in links.assigned.items() for text in texts)
    routes = sorted((names[ifindex], route) for ifindex, by_link in links.routes.items() for route in by_link)
    return sorted(plain, key=lambda link: link.name), masters, addresses, routes, dict(links.journal)


def foreign(kernel: Kernel) -> object:
    """The links that vfagent did not create and must not change."""
    return sorted(
        (link for link in kernel.links.created.values() if link.alias != MANAGED_ALIAS), key=lambda link: link.name
    )


def managed_addresses(kernel: Kernel) -> list[str]:
    return sorted(
        address.text for by_link in kernel.links.addresses().values() for address in by_link if address.managed
    )


@given(before=hosts(), policy=policies())
@examples(150)
def test_a_host_s_network_converges_and_is_not_changed_again(before: Before, policy: Policy) -> None:
    ledger.counted["histories"] += 1
    kernel, pf = make(before)
    foreign_links = foreign(kernel)
    agent = Agent(kernel, policy)
    run = agent.settle(pf.address)
    second = agent.converge(pf.address)
    assert foreign(kernel) == foreign_links
    lan0 = kernel.links.created["lan0"].ifindex
    assert not any(address.managed for address in kernel.links.addresses().get(lan0, ()))
    if run.failures:
        assert not kernel.links.journal
        assert all("does not answer" in failure.text for failure in run.failures)
        return
    assert not second.done
    assert not second.plan.steps
    if second.plan.settled:
        _check_the_policy_holds(kernel, policy)


def _check_the_policy_holds(kernel: Kernel, policy: Policy) -> None:
    links = kernel.links
    for vlan in policy.pf[0].vlan:
        link = links.created[vlan.name]
        assert link.vlan == VlanTag(vlan.id)
        assert link.admin_up
        assert link.master == (links.created[vlan.bridge].ifindex if vlan.bridge else None)
        for address in vlan.addresses:
            assert links.links_with(address) == [vlan.bridge or vlan.name]
    assert not links.journal


@given(before=hosts(), policy=policies(), after=st.none() | policies())
@examples(40)
def test_after_a_kill_addresses_are_at_the_source_or_the_target(
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
            assert kernel.links.links_with(ADDRESS), kill
        agent.restart(forget=False)
        agent.policy = after or policy
        run = agent.settle(pf.address)
        assert not kernel.links.journal, kill
        assert len(kernel.links.links_with(ADDRESS)) <= 1, kill
        if before.user and after is None:
            assert kernel.links.links_with(ADDRESS), kill
        if before.routed and kernel.links.links_with(ADDRESS):
            assert [kernel.links.link_of_route(DEFAULT)] == kernel.links.links_with(ADDRESS), kill
        if not run.failures:
            assert not agent.converge(pf.address).done, kill


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("number", range(14))
def test_a_move_interrupted_by_a_kill_is_rolled_back_if_its_rule_is_removed(number: int, *, late: bool) -> None:
    kernel, pf = make(Before(user="lan0", routed=True))
    agent = Agent(kernel, policy_with_vlan_interface(take_addresses_from="lan0", allow_management=True))
    agent.converge(pf.address, kill=Kill(number, after=late))
    interrupted = bool(kernel.links.journal)
    agent.restart(forget=False)
    agent.policy = Policy(digest="read")
    agent.settle(pf.address)
    assert not kernel.links.journal
    assert kernel.links.links_with(ADDRESS) == [kernel.links.link_of_route(DEFAULT)]
    assert kernel.links.links_with(ADDRESS) == ["lan0"] or not interrupted


@given(before=hosts(), policy=policies())
@examples(60)
def test_without_rules_only_what_vfagent_created_is_removed(before: Before, policy: Policy) -> None:
    ledger.counted["histories"] += 1
    kernel, pf = make(before)
    foreign_links = foreign(kernel)
    agent = Agent(kernel, policy)
    agent.settle(pf.address)
    agent.policy = Policy(bridge=policy.bridge, digest="read")
    run = agent.settle(pf.address)
    assert foreign(kernel) == foreign_links
    assert all(deferred.blocker for deferred in run.plan.deferred)
    left = [name for name in kernel.links.managed() if kernel.links.created[name].kind == "vlan"]
    steps = [deferred.step for deferred in run.plan.deferred]
    assert left == [step.name for step in steps if isinstance(step, DeleteLink)]
    assert managed_addresses(kernel) == [address for step in steps for address in _addresses_of(step)]
    if before.user and not steps:
        assert kernel.links.links_with(ADDRESS) == [before.user]
        assert kernel.links.link_of_route(DEFAULT) == (before.user if before.routed else None)


def test_a_deferred_address_removal_outlives_its_vlan_interface() -> None:
    """On a foreign bridge, which carries the default route, so that its port is not removed by vfagent."""
    kernel, pf = make(Before(bridge=True, user="virbr0", routed=True))
    (rule,) = policy_with_vlan_interface().pf
    vlan_interface = replace(rule.vlan[0], addresses=("192.168.10.2/24",))
    agent = Agent(kernel, Policy(pf=(replace(rule, vlan=(vlan_interface,)),), digest="read"))
    agent.settle(pf.address)
    agent.policy = Policy(digest="read")
    agent.settle(pf.address)
    kernel.links.delete(kernel.links.created["vlan10"].ifindex)
    (deferred,) = agent.settle(pf.address).plan.deferred
    assert deferred.blocker == "virbr0 carries the default route"


def _addresses_of(step: object) -> tuple[str, ...]:
    match step:
        case RemoveAddress():
            return (step.address,)
        case MoveAddresses():
            return step.move.addresses
        case _:
            return ()


def test_without_a_readable_policy_nothing_is_removed() -> None:
    kernel, pf = make(Before())
    agent = Agent(kernel, policy_with_vlan_interface())
    agent.settle(pf.address)
    before = state(kernel)
    agent.policy = Policy()
    assert not agent.settle(pf.address).done
    assert state(kernel) == before


def policy_with_vlan_interface(hwmode: HwMode | None = None, **more: Any) -> Policy:
    vlan = VlanRule(id=10, name="vlan10", bridge="virbr0", addresses=(ADDRESS,), **more)
    rule = PfRule(name="rule", match=PfMatch(pci="*"), vfs=VfCount(number=2), hwmode=hwmode, vlan=(vlan,))
    return Policy(pf=(rule,), bridge=(BridgeRule(name="virbr0"),), digest="read")


def test_hwmode_is_set_again_when_vfs_are_created_again() -> None:
    kernel, pf = make(Before(kind=I40E))
    agent = Agent(kernel, policy_with_vlan_interface(hwmode=HwMode.VEPA))
    agent.settle(pf.address)
    assert pf.hwmode == "vepa"
    kernel.write_numvfs(pf, "0")
    assert pf.hwmode == "veb"
    agent.settle(pf.address)
    assert (len(pf.vfs), pf.hwmode) == (2, "vepa")


def test_hwmode_is_not_changed_while_a_vf_is_in_use() -> None:
    kernel, pf = make(Before(kind=I40E))
    agent = Agent(kernel, policy_with_vlan_interface())
    agent.settle(pf.address)
    pf.vfs[0].driver, pf.vfs[0].netdev, pf.vfs[0].group_open = "vfio-pci", None, True
    agent.policy = policy_with_vlan_interface(hwmode=HwMode.VEPA)
    run = agent.settle(pf.address)
    assert pf.hwmode == "veb"
    assert [deferred for deferred in run.plan.deferred if "hwmode" in deferred.step.describe()]


def test_unsupported_hwmode_is_a_note_and_the_pf_is_converged() -> None:
    kernel, pf = make(Before(kind=IGB))
    run = Agent(kernel, policy_with_vlan_interface(hwmode=HwMode.VEPA)).settle(pf.address)
    assert run.plan.settled
    assert run.plan.notes == ("hwmode is not supported by igb",)
