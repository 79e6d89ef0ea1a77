# SPDX-License-Identifier: Apache-2.0
"""What must hold between the keys of one [[pf]] rule."""

import re
from collections.abc import Iterable, Iterator

from vfagent.model.vf_settings import VlanProtocol
from vfagent.policy.indices import LARGEST_COUNT
from vfagent.policy.problems import Problem, quoted
from vfagent.policy.references import mac_of, reaches
from vfagent.policy.source_locations import Place
from vfagent.policy.types import EswitchMode, PfRule, VfRule, VlanRule

_ASSUMED_VFS = 256  # where the policy does not say a number
_UNICAST_MAC = r"[0-9a-f][02468ace](?::[0-9a-f]{2}){5}"


def check_pf(rule: PfRule, at: Place) -> Iterator[Problem]:
    yield from _overlaps(rule, at)
    yield from _after_catch_all(rule, at)
    yield from _macs(rule, at)
    for number, vf in enumerate(rule.vf):
        yield from _check_vf(vf, rule, at / "vf" / number)
    for number, vlan in enumerate(rule.vlan):
        yield from _check_vlan(vlan, at / "vlan" / number)
        if rule.mtu and vlan.mtu and vlan.mtu > rule.mtu:
            text = f"found {vlan.mtu}, allowed is at most the PF's own mtu, {rule.mtu}"
            yield (at / "vlan" / number / "mtu").problem(text)
    yield from _vlans_once(rule, at)
    yield from _tags_of_ports(rule, at) if rule.eswitch is EswitchMode.SWITCHDEV else _needless_bridges(rule, at)


def _vlans_once(rule: PfRule, at: Place) -> Iterator[Problem]:
    """A PF has one device for a VLAN, the kernel says EEXIST to a second."""
    first: dict[tuple[int, VlanProtocol], int] = {}
    for number, vlan in enumerate(rule.vlan):
        holder = first.setdefault((vlan.id, vlan.protocol), number)
        if holder != number:
            text = f"found VLAN {vlan.id} a second time, allowed is once: it is that of {at / 'vlan' / holder}"
            yield (at / "vlan" / number / "id").problem(text)


def _tags_of_ports(rule: PfRule, at: Place) -> Iterator[Problem]:
    """VLAN 0 is taken in either mode: drivers let it pass for libvirt's sake."""
    for number, vf in enumerate(rule.vf):
        if vf.vlan:
            text = f'found {vf.vlan} with eswitch = "switchdev", allowed is 0: there the bridge\'s ports have VLANs'
            yield (at / "vf" / number / "vlan").problem(text)


def _needless_bridges(rule: PfRule, at: Place) -> Iterator[Problem]:
    for number, vf in enumerate(rule.vf):
        if vf.bridge:
            text = 'found without eswitch = "switchdev", allowed is beside it: only there a VF has a representor'
            yield (at / "vf" / number / "bridge").problem(text)


def _check_vf(vf: VfRule, rule: PfRule, at: Place) -> Iterator[Problem]:
    yield from _beyond(vf, rule, at)
    yield from _tag(vf, at)
    if vf.max_tx_rate and vf.min_tx_rate is not None and vf.min_tx_rate > vf.max_tx_rate:
        yield (at / "min_tx_rate").problem(f"found {vf.min_tx_rate}, allowed is at most max_tx_rate, {vf.max_tx_rate}")


def _beyond(vf: VfRule, rule: PfRule, at: Place) -> Iterator[Problem]:
    count = rule.vfs.number if rule.vfs else None
    if count is None or vf.index.ranges is None:
        return
    last = max(high for _, high in vf.index.ranges)
    if last >= count:
        allowed = f"0 to {count - 1}" if count else "none"
        yield (at / "index").problem(f'found "{vf.index}", allowed is {allowed}: the rule makes {count} VFs')


def _tag(vf: VfRule, at: Place) -> Iterator[Problem]:
    if vf.vlan is None:
        for name in ("qos", "vlan_protocol"):
            if getattr(vf, name) is not None:
                yield (at / name).problem(f"found {name} without vlan, allowed is {name} beside vlan")
    elif vf.vlan == 0:
        if vf.qos:
            yield (at / "qos").problem(f"found {vf.qos} with vlan 0, allowed is 0: without a VLAN there is no tag")
        if vf.vlan_protocol is VlanProtocol.DOT1AD:
            yield (at / "vlan_protocol").problem('found "802.1ad" with vlan 0, allowed is "802.1Q"')


def _overlaps(rule: PfRule, at: Place) -> Iterator[Problem]:
    """Explicit indices that two rules name, found by one walk over the sorted ranges."""
    spans = sorted((low, high, number) for number, vf in enumerate(rule.vf) for low, high in vf.index.ranges or ())
    reach, holder = -1, 0
    logged: set[tuple[int, int]] = set()
    for low, high, number in spans:
        pair = (max(number, holder), min(number, holder))
        if low <= reach and pair not in logged:
            logged.add(pair)
            later, earlier = (at / "vf" / part / "index" for part in pair)
            yield later.problem(f"found index {low} a second time, allowed is once: it is named at {earlier}")
        if high > reach:
            reach, holder = high, number


def _after_catch_all(rule: PfRule, at: Place) -> Iterator[Problem]:
    catch_all = next((number for number, vf in enumerate(rule.vf) if vf.index.ranges is None), None)
    if catch_all is not None and catch_all < len(rule.vf) - 1:
        text = 'found "*" before other rules, allowed is "*" as the last: the rules after it would never be used'
        yield (at / "vf" / catch_all / "index").problem(text)


def _macs(rule: PfRule, at: Place) -> Iterator[Problem]:
    holders: dict[str, int] = {}
    for number, vf in enumerate(rule.vf):
        if vf.mac not in (None, "stable"):
            problem = _mac_problem(vf.mac or "", _covered(rule, number), holders)
            if problem:
                yield (at / "vf" / number / "mac").problem(problem)


def _covered(rule: PfRule, number: int) -> Iterator[int]:
    """The indices that one of the rule's [[pf.vf]] is for; lazily, since there may be 65535."""
    count = rule.vfs.number if rule.vfs else None
    indices = rule.vf[number].index
    if indices.ranges is not None:
        yield from indices.within(LARGEST_COUNT if count is None else count)
        return
    for index in indices.within(_ASSUMED_VFS if count is None else count):
        if not any(index in earlier.index for earlier in rule.vf[:number]):
            yield index


def _mac_problem(mac: str, covered: Iterable[int], holders: dict[str, int]) -> str:
    """Ends at the first index that fails: no template serves more than 256."""
    for index in covered:
        made = mac_of(mac, index)
        if not re.fullmatch(_UNICAST_MAC, made) or made == "00:00:00:00:00:00":
            return f"found {quoted(mac)}, which gives VF {index} {quoted(made)}, allowed is a unicast MAC for every VF"
        if holders.setdefault(made, index) != index:
            both = f"VFs {holders[made]} and {index} the same MAC"
            return f"found {quoted(mac)}, which gives {both}, allowed is one VF per MAC"
    return ""


def _check_vlan(vlan: VlanRule, at: Place) -> Iterator[Problem]:
    if vlan.bridge == vlan.name:
        yield (at / "bridge").problem(f"found {quoted(vlan.name)}, the VLAN device itself, allowed is a bridge")
    if vlan.take_addresses_from == vlan.name:
        yield (at / "take_addresses_from").problem(_own_addresses(vlan))
    if vlan.take_addresses_from and not vlan.addresses:
        yield (at / "take_addresses_from").problem("found no addresses beside it, allowed is with addresses to take")
    if vlan.probe and not vlan.take_addresses_from:
        yield (at / "probe").problem("found without take_addresses_from, allowed is beside it: it is for a move")
    if vlan.probe and vlan.addresses and not any(reaches(address, vlan.probe) for address in vlan.addresses):
        text = f"found {quoted(vlan.probe)}, allowed is one in a network of addresses: only a neighbour can answer"
        yield (at / "probe").problem(text)
    for number, address in enumerate(vlan.addresses):
        if address in vlan.addresses[:number]:
            yield (at / "addresses" / number).problem(f"found {quoted(address)} a second time, allowed is once")


def _own_addresses(vlan: VlanRule) -> str:
    if vlan.bridge is None:
        return f"found {quoted(vlan.name)}, the VLAN device itself, allowed is another interface"
    return (
        f"found {quoted(vlan.name)}, a port of bridge {quoted(vlan.bridge)}, allowed is an interface that is no port"
        " of it: frames that reach a bridge port belong to the bridge, so an address on the port is never answered;"
        " the bridge holds the addresses"
    )
