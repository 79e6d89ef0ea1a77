# SPDX-License-Identifier: Apache-2.0
"""Checks between the keys of one [[pf]] rule."""

import re
from collections.abc import Iterable, Iterator

from vfagent.frozen import frozen
from vfagent.model.vf_settings import VlanProtocol
from vfagent.policy.indices import LARGEST_COUNT
from vfagent.policy.link_layer_checks import check_link_layer
from vfagent.policy.problems import Problem, quoted
from vfagent.policy.references import address_of, reaches
from vfagent.policy.source_locations import Location
from vfagent.policy.types import EswitchMode, PfRule, VfRule, VlanRule

_ASSUMED_VFS = 256  # where `vfs` is not a number


@frozen(slots=True)
class _AddressKind:
    """A key of [[pf.vf]] that gives each VF an address of its own."""

    key: str
    word: str
    allowed: str
    pattern: str


_KINDS = (
    _AddressKind("mac", "MAC", "a unicast MAC", "[0-9a-f][02468ace](?::[0-9a-f]{2}){5}"),
    _AddressKind("node_guid", "GUID", "a GUID of 8 bytes", "[0-9a-f]{2}(?::[0-9a-f]{2}){7}"),
    _AddressKind("port_guid", "GUID", "a GUID of 8 bytes", "[0-9a-f]{2}(?::[0-9a-f]{2}){7}"),
)


def check_pf(rule: PfRule, at: Location) -> Iterator[Problem]:
    yield from _repeated_indices(rule, at)
    yield from _after_catch_all(rule, at)
    yield from _addresses(rule, at)
    yield from check_link_layer(rule, at)
    for number, vf in enumerate(rule.vf):
        yield from _check_vf(vf, rule, at / "vf" / number)
    for number, vlan in enumerate(rule.vlan):
        yield from _check_vlan(vlan, at / "vlan" / number)
        if rule.mtu and vlan.mtu and vlan.mtu > rule.mtu:
            text = f"found {vlan.mtu}, allowed is at most the PF's own mtu, {rule.mtu}"
            yield (at / "vlan" / number / "mtu").problem(text)
    yield from _repeated_vlans(rule, at)
    yield from _switchdev_vlans(rule, at) if rule.eswitch is EswitchMode.SWITCHDEV else _legacy_bridges(rule, at)


def _repeated_vlans(rule: PfRule, at: Location) -> Iterator[Problem]:
    """The kernel allows one VLAN interface per PF, ID and protocol: a second one fails with EEXIST."""
    users: dict[tuple[int, VlanProtocol], int] = {}
    for number, vlan in enumerate(rule.vlan):
        first = users.setdefault((vlan.id, vlan.protocol), number)
        if first != number:
            text = f"found VLAN {vlan.id} a second time, allowed is once: first used at {at / 'vlan' / first}"
            yield (at / "vlan" / number / "id").problem(text)


def _switchdev_vlans(rule: PfRule, at: Location) -> Iterator[Problem]:
    """VLAN 0 is allowed in either mode: drivers accept it for libvirt's sake."""
    for number, vf in enumerate(rule.vf):
        if vf.vlan:
            text = f'found {vf.vlan} with eswitch = "switchdev", allowed is 0: VLANs are set on the bridge ports'
            yield (at / "vf" / number / "vlan").problem(text)


def _legacy_bridges(rule: PfRule, at: Location) -> Iterator[Problem]:
    for number, vf in enumerate(rule.vf):
        if vf.bridge:
            text = 'found without eswitch = "switchdev", allowed is with it: only then a VF has a representor'
            yield (at / "vf" / number / "bridge").problem(text)


def _check_vf(vf: VfRule, rule: PfRule, at: Location) -> Iterator[Problem]:
    yield from _index_range(vf, rule, at)
    yield from _vlan_tag(vf, at)
    yield from _optional(vf, at)
    if vf.max_tx_rate and vf.min_tx_rate is not None and vf.min_tx_rate > vf.max_tx_rate:
        yield (at / "min_tx_rate").problem(f"found {vf.min_tx_rate}, allowed is at most max_tx_rate, {vf.max_tx_rate}")


def _index_range(vf: VfRule, rule: PfRule, at: Location) -> Iterator[Problem]:
    count = rule.vfs.number if rule.vfs else None
    if count is None or vf.index.ranges is None:
        return
    last = max(high for _, high in vf.index.ranges)
    if last >= count:
        allowed = f"0 to {count - 1}" if count else "none"
        yield (at / "index").problem(f'found "{vf.index}", allowed is {allowed}: the rule creates {count} VFs')


def _vlan_tag(vf: VfRule, at: Location) -> Iterator[Problem]:
    if vf.vlan is None:
        for name in ("qos", "vlan_protocol"):
            if getattr(vf, name) is not None:
                yield (at / name).problem(f"found {name} without vlan, allowed is {name} with vlan")
    elif vf.vlan == 0:
        if vf.qos:
            yield (at / "qos").problem(f"found {vf.qos} with vlan 0, allowed is 0: without a VLAN there is no tag")
        if vf.vlan_protocol is VlanProtocol.DOT1AD:
            yield (at / "vlan_protocol").problem('found "802.1ad" with vlan 0, allowed is "802.1Q"')


def _optional(vf: VfRule, at: Location) -> Iterator[Problem]:
    asked = {
        "mac": vf.mac is not None,
        "vlan": vf.vlan is not None,
        "spoof_check": vf.spoof_check is True,
        "trust": vf.trust is False,
        "node_guid": vf.node_guid is not None,
        "port_guid": vf.port_guid is not None,
    }
    meant = {"spoof_check": "spoof_check = true", "trust": "trust = false"}
    for number, name in enumerate(vf.optional):
        if name in vf.optional[:number]:
            yield (at / "optional" / number).problem(f"found {quoted(name)} a second time, allowed is once")
        elif not asked[name]:
            text = f"found {quoted(name)} without {meant.get(name, name)}, allowed is isolation that the rule asks for"
            yield (at / "optional" / number).problem(text)


def _repeated_indices(rule: PfRule, at: Location) -> Iterator[Problem]:
    """Explicit indices in two rules, in one pass over the sorted ranges."""
    spans = sorted((low, high, number) for number, vf in enumerate(rule.vf) for low, high in vf.index.ranges or ())
    reach, reaching = -1, 0  # the highest index so far, and the number of its rule
    reported: set[tuple[int, int]] = set()
    for low, high, number in spans:
        pair = (max(number, reaching), min(number, reaching))
        if low <= reach and pair not in reported:
            reported.add(pair)
            later, earlier = (at / "vf" / part / "index" for part in pair)
            yield later.problem(f"found index {low} a second time, allowed is once: first used at {earlier}")
        if high > reach:
            reach, reaching = high, number


def _after_catch_all(rule: PfRule, at: Location) -> Iterator[Problem]:
    catch_all = next((number for number, vf in enumerate(rule.vf) if vf.index.ranges is None), None)
    if catch_all is not None and catch_all < len(rule.vf) - 1:
        text = 'found "*" before other [[pf.vf]], allowed is "*" after them: those after it are never used'
        yield (at / "vf" / catch_all / "index").problem(text)


def _addresses(rule: PfRule, at: Location) -> Iterator[Problem]:
    for kind in _KINDS:
        first_vf: dict[str, int] = {}
        for number, vf in enumerate(rule.vf):
            text: str | None = getattr(vf, kind.key)
            if text not in (None, "stable"):
                problem = _address_problem(kind, text or "", _covered(rule, number), first_vf)
                if problem:
                    yield (at / "vf" / number / kind.key).problem(problem)


def _covered(rule: PfRule, number: int) -> Iterator[int]:
    """The indices of one [[pf.vf]] of the rule; lazily, since there can be 65535."""
    count = rule.vfs.number if rule.vfs else None
    indices = rule.vf[number].index
    if indices.ranges is not None:
        yield from indices.within(LARGEST_COUNT if count is None else count)
        return
    for index in indices.within(_ASSUMED_VFS if count is None else count):
        if not any(index in earlier.index for earlier in rule.vf[:number]):
            yield index


def _address_problem(kind: _AddressKind, template: str, covered: Iterable[int], first_vf: dict[str, int]) -> str:
    """Ends at the first index that fails: no template serves more than 256."""
    word, gives = kind.word, f"found {quoted(template)}, which gives"
    for index in covered:
        address = address_of(template, index)
        if not re.fullmatch(kind.pattern, address) or not address.strip("0:"):
            given = f"VF {index} {quoted(address)}"
            return f"{gives} {given}, allowed is {kind.allowed} for each VF{_better(template)}"
        if first_vf.setdefault(address, index) != index:
            both = f"VFs {first_vf[address]} and {index} the same {word}"
            return f"{gives} {both}, allowed is one VF per {word}{_better(template)}"
    return ""


def _better(mac: str) -> str:
    """Two hexadecimal digits serve 256 VFs."""
    rewritten = '"stable", which has no such limit'
    place = re.search(r"\{index(?::[^}]*)?\}", mac)
    if place and place[0].lower() != "{index:02x}":
        rewritten = quoted(re.sub(r"\{index[^}]*\}", "{index:02x}", mac))
    elif "{" not in mac:
        rewritten = f'"{mac[:-2]}{{index:02x}}" or "stable"'
    return f", did you mean {rewritten}?"


def _check_vlan(vlan: VlanRule, at: Location) -> Iterator[Problem]:
    if vlan.bridge == vlan.name:
        yield (at / "bridge").problem(f"found {quoted(vlan.name)}, the VLAN interface itself, allowed is a bridge")
    if vlan.take_addresses_from == vlan.name:
        yield (at / "take_addresses_from").problem(_own_addresses(vlan))
    if vlan.take_addresses_from and not vlan.addresses:
        yield (at / "take_addresses_from").problem("found no addresses with it, allowed is with addresses to move")
    if vlan.probe and not vlan.take_addresses_from:
        yield (at / "probe").problem("found without take_addresses_from, allowed is with it: it checks a move")
    if vlan.probe and vlan.addresses and not any(reaches(address, vlan.probe) for address in vlan.addresses):
        reason = "only a neighbour can answer"
        text = f"found {quoted(vlan.probe)}, allowed is an address in the network of one of addresses: {reason}"
        yield (at / "probe").problem(text)
    for number, address in enumerate(vlan.addresses):
        if address in vlan.addresses[:number]:
            yield (at / "addresses" / number).problem(f"found {quoted(address)} a second time, allowed is once")


def _own_addresses(vlan: VlanRule) -> str:
    if vlan.bridge is None:
        return f"found {quoted(vlan.name)}, the VLAN interface itself, allowed is another interface"
    return (
        f"found {quoted(vlan.name)}, a port of bridge {quoted(vlan.bridge)}, allowed is an interface that is not a"
        " port of it: frames that reach a bridge port belong to the bridge, so an address on the port never answers;"
        " the addresses belong on the bridge"
    )
