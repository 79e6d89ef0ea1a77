# SPDX-License-Identifier: Apache-2.0
"""A policy for what a host has: rules whose plan is empty, and what they cannot say as comments. Pure.

Each rule is read and planned as the service would do it. What it would change is left out of it, one part after the
other; where something is left all the same, the whole rule is a comment.
"""

import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, assert_never

from vfagent.errors import PolicyError
from vfagent.frozen import frozen
from vfagent.model.desired import HOST_DRIVER, KEEP_DRIVER, NO_DRIVER, driver_word
from vfagent.model.inventory import Pf, Vf
from vfagent.model.network import HostNetwork, Link, VlanTag
from vfagent.model.vf_settings import TABLE, Form, VlanProtocol
from vfagent.plan.network_steps import FdbStep
from vfagent.plan.planner import Plan
from vfagent.policy.indices import IndexSet
from vfagent.policy.match import HostIdentity, matches
from vfagent.policy.positions import scan
from vfagent.policy.reading import merged
from vfagent.policy.source_locations import Document
from vfagent.policy.types import PfMatch, Policy

PlanOf = Callable[[Policy, Pf], Plan]
"""The plan of one PF with a policy, by what the host shows now."""

Rule = dict[str, Any]
"""A rule as TOML has it: keys and values."""

_SHOWN = 6  # of what a plan would do, in a comment
_ETHERNET_MTU = 1500


@frozen
class Draft:
    """What `init` writes about one PF. `adopted`: the rule is active; else it is a comment."""

    pf: Pf
    rule: Rule | None
    adopted: bool
    comments: tuple[str, ...] = ()
    bridges: tuple[Rule, ...] = ()


@frozen
class _Candidate:
    """A rule in its parts: the keys of the PF, those of each VF by its index, VLAN interfaces, and their bridges."""

    pf: Pf
    keys: Rule
    vfs: Mapping[int, Rule]
    vlans: tuple[Rule, ...] = ()
    bridges: tuple[Rule, ...] = ()

    @property
    def rule(self) -> Rule:
        parts = {"vf": _grouped(self.vfs), "vlan": list(self.vlans)}
        return {**self.keys, **{key: value for key, value in parts.items() if value}}

    def policy(self, earlier: Iterable[Draft]) -> Policy:
        """Together with the rules before it. Raises PolicyError."""
        drafts = (*earlier, Draft(self.pf, self.rule, adopted=True, bridges=self.bridges))
        tables = {"pf": [draft.rule for draft in drafts if draft.adopted], "bridge": list(bridges_of(drafts))}
        return merged([Document("init", scan(""), tables)]).policy

    def without(self, *names: str, of: Container[int | None] | None = None, driver: str | None = None) -> "_Candidate":
        """Without these keys of the VFs `of`, or of all."""
        vfs = dict(self.vfs)
        for index in (index for index in vfs if of is None or index in of):
            vfs[index] = {key: value for key, value in vfs[index].items() if key not in names}
            vfs[index] |= {"driver": driver} if driver else {}
        return replace(self, vfs=vfs)


def bridges_of(drafts: Iterable[Draft]) -> tuple[Rule, ...]:
    """The [[bridge]] rules of what is adopted; PFs can share one."""
    return tuple({bridge["name"]: bridge for draft in drafts for bridge in draft.bridges}.values())


def adopt(pfs: Iterable[Pf], identity: HostIdentity, owners: Mapping[str, str], plan_of: PlanOf) -> tuple[Draft, ...]:
    """A draft for each PF. `owners`: which program makes an interface, by its name; the others were made by hand."""
    everything, names, drafts = tuple(pfs), set[str](), list[Draft]()

    for pf in everything:
        name = _rule_name(pf, names)
        names.add(name)
        rule: Rule = {"name": name, "match": _match(pf, everything, identity)}
        left_of = partial(_left, earlier=tuple(drafts), plan_of=plan_of)
        drafts.append(_adopted(pf, rule, owners, left_of) if pf.vfs else _proposed(pf, rule))
    return tuple(drafts)


def _rule_name(pf: Pf, taken: set[str]) -> str:
    name = pf.netdev.name if pf.netdev else ""
    if re.fullmatch("[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}", name) and name not in taken:
        return name
    return f"pf-{pf.address.replace(':', '-')}"


def _match(pf: Pf, pfs: tuple[Pf, ...], identity: HostIdentity) -> Rule:
    """By its MAC, which goes with the card into another slot, where it is this PF's alone; else by its PCI address."""
    mac = pf.netdev.lasting_mac if pf.netdev else None
    if mac and [other for other in pfs if matches(PfMatch(mac=mac), other, identity)] == [pf]:
        return {"mac": mac}
    return {"pci": str(pf.address)}


def _proposed(pf: Pf, rule: Rule) -> Draft:
    """For a PF without VFs."""
    if not pf.totalvfs:
        why = "sriov_totalvfs is 0: its firmware or driver allows no VFs (see vfagent doctor)"
        return Draft(pf, None, adopted=False, comments=(why,))
    guid = {"node_guid": "stable", "port_guid": "stable"}
    mac = {"mac": "stable", "spoof_check": True, "trust": False}
    settings = guid if pf.is_infiniband else mac if pf.is_nic else {}
    proposal = {**rule, "vfs": min(4, pf.totalvfs), "vf": [{"driver": "vfio-pci", **settings}]}
    comments = [f"has no VFs. A proposal: up to {pf.totalvfs} VFs are possible; remove the # to have it"]
    if pf.netdev and pf.netdev.management:
        comments.append(f"{pf.netdev.name} {pf.netdev.management}: without allow_management = true VFs are not made")
    return Draft(pf, proposal, adopted=False, comments=tuple(comments))


def _adopted(pf: Pf, rule: Rule, owners: Mapping[str, str], left_of: Callable[["_Candidate"], list["_Item"]]) -> Draft:
    vlans, bridges, foreign = _vlans(pf, owners)
    keys = {**rule, "vfs": len(pf.vfs), **_port_keys(pf)}
    best = _Candidate(pf, keys, {vf.index: _vf_keys(vf, pf) for vf in pf.vfs}, vlans, bridges)
    left, comments = left_of(best), list[str]()
    for weaken, text in _WEAKER:
        candidate = weaken(best, left)
        if not left or candidate == best:
            continue
        remaining = left_of(candidate)
        if len(remaining) < len(left):
            comments += _explained(text, [item for item in left if item not in remaining])
            best, left = candidate, remaining
    if left:
        comments += _explained("this rule is a comment; with it there would be", left)
    return Draft(pf, best.rule, not left, (*comments, *foreign), () if left else best.bridges)


def _explained(text: str, items: list["_Item"]) -> Iterator[str]:
    yield f"{text}:"
    yield from (f"  {item.text}" for item in items[:_SHOWN])
    if len(items) > _SHOWN:
        yield f"  and {len(items) - _SHOWN} more"


# What a plan would do


@frozen
class _Item:
    """Something that is not as the rule says. `vf`: the index of the VF that it is about."""

    text: str
    vf: int | None = None
    fdb: bool = False


def _left(candidate: _Candidate, earlier: tuple[Draft, ...], plan_of: PlanOf) -> list[_Item]:
    try:
        policy = candidate.policy(earlier)
    except PolicyError as error:
        return [_Item(problem) for problem in error.problems]
    plan = plan_of(policy, candidate.pf)
    steps = [*(p.step for p in plan.steps), *(d.step for d in plan.deferred)]
    return [
        *(_Item(step.describe(), getattr(step, "index", None), fdb=isinstance(step, FdbStep)) for step in steps),
        *(_Item(text) for text in plan.waiting),
        *(_Item(str(problem), problem.vf) for problem in plan.problems),
    ]


# What can be left out of a rule, in this order


def _without_fdb(candidate: _Candidate, left: list[_Item]) -> _Candidate:
    return replace(candidate, keys={**candidate.keys, "fdb": "off"}) if any(i.fdb for i in left) else candidate


def _without_addresses(candidate: _Candidate, _: list[_Item]) -> _Candidate:
    vlans = ({key: value for key, value in vlan.items() if key != "addresses"} for vlan in candidate.vlans)
    return replace(candidate, vlans=tuple(vlans))


def _without_vlans(candidate: _Candidate, _: list[_Item]) -> _Candidate:
    return replace(candidate, vlans=(), bridges=())


def _without_rates(candidate: _Candidate, _: list[_Item]) -> _Candidate:
    return candidate.without("min_tx_rate", "max_tx_rate")


def _without_settings(candidate: _Candidate, left: list[_Item]) -> _Candidate:
    return candidate.without(*_SETTINGS, of={item.vf for item in left})


def _with_kept_drivers(candidate: _Candidate, left: list[_Item]) -> _Candidate:
    return candidate.without(*_SETTINGS, "bridge", of={item.vf for item in left}, driver=KEEP_DRIVER)


_Weaken = Callable[[_Candidate, list[_Item]], _Candidate]
_WEAKER: tuple[tuple[_Weaken, str], ...] = (
    (_without_fdb, 'fdb is "off"; with "auto" there would be'),
    (_without_addresses, "addresses of VLAN interfaces are left out; with them there would be"),
    (_without_vlans, "VLAN interfaces are left out; with them there would be"),
    (_without_rates, "rates are left out; with them there would be"),
    (_without_settings, "settings of VFs are left out; with them there would be"),
    (_with_kept_drivers, 'some VFs have driver = "keep"; with their present driver there would be'),
)


# The parts of a rule


def _port_keys(pf: Pf) -> Rule:
    """What differs from a NIC that nobody has configured."""
    netdev = pf.netdev
    keys: Rule = {}
    if netdev and not netdev.is_ipoib and netdev.mtu > _ETHERNET_MTU:
        keys["mtu"] = netdev.mtu
    if pf.hwmode == "vepa":
        keys["hwmode"] = pf.hwmode
    if pf.eswitch == "switchdev":
        keys["eswitch"] = pf.eswitch
    return keys


def _vf_keys(vf: Vf, pf: Pf) -> Rule:
    keys: Rule = {"driver": _driver(vf)}
    for name, row in TABLE.items():
        value = getattr(vf.settings, name) if vf.settings else None
        if value is not None and value != row.new:
            keys |= _setting(name, row.form, value)
    if (bridge := _representors_bridge(vf, pf)) is not None:
        keys["bridge"] = bridge
    return keys


def _driver(vf: Vf) -> str:
    """With an override that names one, a VF without a driver is on its way to it."""
    word = driver_word(vf)
    return KEEP_DRIVER if word == NO_DRIVER and vf.driver_override else word


def _setting(name: str, form: Form, value: Any) -> Rule:
    match form:
        case Form.VLAN:
            vlan: Rule = {"vlan": value.id} if value.id else {}
            qos = {"qos": value.qos} if value.id and value.qos else {}
            tagged = value.id and value.protocol is not VlanProtocol.DOT1Q
            return vlan | qos | ({"vlan_protocol": str(value.protocol)} if tagged else {})
        case Form.RATE:
            limits = {"min_tx_rate": value.min_mbit, "max_tx_rate": value.max_mbit}
            return {key: limit for key, limit in limits.items() if limit}
        case Form.LINK_STATE:
            return {name: str(value)}
        case Form.SWITCH | Form.MAC | Form.GUID:
            return {name: value}
    assert_never(form)


_SETTINGS = frozenset(TABLE) - {"rate"} | {"qos", "vlan_protocol", "min_tx_rate", "max_tx_rate"}


def _representors_bridge(vf: Vf, pf: Pf) -> str | None:
    network = pf.network or HostNetwork()
    masters = (network.named(port.master) for port in network.representors if port.index == vf.index)
    return next((master.name for master in masters if master and master.kind == "bridge"), None)


def _grouped(vfs: Mapping[int, Rule]) -> list[Rule]:
    """A [[pf.vf]] for VFs with the same keys. None at all where every VF has its host driver and nothing else."""
    indices = dict[tuple[tuple[str, Any], ...], list[int]]()
    for index, vf in sorted(_with_mac_templates(vfs).items()):
        indices.setdefault(tuple(vf.items()), []).append(index)
    if len(indices) == 1:
        (keys,) = map(dict, indices)
        return [] if keys == {"driver": HOST_DRIVER} else [keys]
    return [{"index": str(IndexSet(_ranges(alike))), **dict(keys)} for keys, alike in indices.items()]


def _with_mac_templates(vfs: Mapping[int, Rule]) -> dict[int, Rule]:
    """52:54:00:bb:00:{index:02x} where several VFs have MACs that end in their index."""
    heads = {index: vf["mac"][:-2] for index, vf in vfs.items() if vf.get("mac", "").endswith(f":{index:02x}")}
    often = {head for head, count in Counter(heads.values()).items() if count > 1}
    template = {index: {"mac": f"{head}{{index:02x}}"} for index, head in heads.items() if head in often}
    return {index: {**vf, **template.get(index, {})} for index, vf in vfs.items()}


def _ranges(indices: list[int]) -> tuple[tuple[int, int], ...]:
    ranges: list[tuple[int, int]] = []
    for index in indices:
        first = ranges.pop()[0] if ranges and ranges[-1][1] == index - 1 else index
        ranges.append((first, index))
    return tuple(ranges)


# The host's network


def _vlans(pf: Pf, owners: Mapping[str, str]) -> tuple[tuple[Rule, ...], tuple[Rule, ...], tuple[str, ...]]:
    """The VLAN interfaces on the PF, their bridges, and a comment for each that another program makes."""
    network = pf.network or HostNetwork()
    own = [link for link in network.links if pf.netdev and link.lower == pf.netdev.ifindex and link.kind == "vlan"]
    foreign = [f"{link.name} ({link.vlan}) stays {owners[link.name]}'s" for link in own if link.name in owners]
    rules, bridges = list[Rule](), dict[str, Rule]()
    for link in own:
        if link.vlan is None or link.name in owners:
            continue
        master = network.at(link.master)
        bridge = master if master and master.kind == "bridge" else None
        rules.append(_vlan(link, link.vlan, bridge, pf))
        if bridge and bridge.name in owners:
            foreign.append(f"bridge {bridge.name} stays {owners[bridge.name]}'s")
        elif bridge:
            bridges[bridge.name] = {"name": bridge.name} | ({"vlan_filtering": True} if bridge.vlan_filtering else {})
    return tuple(rules), tuple(bridges.values()), tuple(foreign)


def _vlan(link: Link, tag: VlanTag, bridge: Link | None, pf: Pf) -> Rule:
    protocol = {} if tag.protocol is VlanProtocol.DOT1Q else {"protocol": str(tag.protocol)}
    mtu = {"mtu": link.mtu} if pf.netdev and link.mtu < pf.netdev.mtu else {}
    addresses = [address.text for address in (bridge or link).addresses if not address.link_local]
    rule: Rule = {"id": tag.id, "name": link.name, **protocol, **mtu}
    rule |= {"bridge": bridge.name} if bridge else {}
    return rule | ({"addresses": addresses} if addresses else {})
