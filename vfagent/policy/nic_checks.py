# SPDX-License-Identifier: Apache-2.0
"""Checks of the virtio NICs of guests, [[guest.nic]]."""

from collections.abc import Iterable, Iterator

from vfagent.policy.problems import Problem, quoted
from vfagent.policy.references import standby_positions
from vfagent.policy.source_locations import Location
from vfagent.policy.types import BridgeRule, GuestRule, NicRule

_STABLE = "stable"


def check_nics(rule: GuestRule, at: Location, *, several: bool) -> Iterator[Problem]:
    """`several`: the rule makes more than one guest."""
    users: dict[int, Location] = {}
    for number, nic in enumerate(rule.nic):
        location = at / "nic" / number
        if several and nic.mac not in (None, _STABLE):
            yield (location / "mac").problem('found one MAC for several guests, allowed is "stable"')
        if nic.standby_for is not None:
            yield from _check_standby(rule, nic, location, users)
    if rule.ipxe and rule.ipxe.loader == "rom":
        if not (rule.vfs or rule.each):
            yield (at / "ipxe" / "loader").problem('found "rom" without a VF, allowed is "auto", "image" or a VF')
        elif 0 in users:
            text = 'found "rom" for a VF with a standby, which no firmware sees, allowed is "auto" or "image"'
            yield (at / "ipxe" / "loader").problem(text)


def _check_standby(rule: GuestRule, nic: NicRule, at: Location, users: dict[int, Location]) -> Iterator[Problem]:
    text = nic.standby_for or ""
    vfs = (*((rule.each,) if rule.each else ()), *rule.vfs)
    positions = standby_positions(vfs, text)
    if len(positions) > 1:
        names = _with_indices(vfs)
        allowed = f"one of them by its index: vfs = [{', '.join(names)}] and standby_for = {names[positions[0]]}"
        yield (at / "standby_for").problem(f"found {quoted(text)}, which is {len(positions)} VFs, allowed is {allowed}")
        return
    if not positions:
        allowed = f"one of the guest's VFs: {', '.join(map(quoted, vfs))}" if vfs else "a VF of the guest: it has none"
        yield (at / "standby_for").problem(f"found {quoted(text)}, allowed is {allowed}")
        return
    first_user = users.setdefault(positions[0], at / "standby_for")
    if first_user != at / "standby_for":
        yield (at / "standby_for").problem(f"found {quoted(text)} a second time, allowed is one standby for a VF")
    if nic.mac not in (None, _STABLE):
        yield (at / "mac").problem("found a MAC with standby_for, allowed is none: the NIC has the VF's")


def _with_indices(vfs: tuple[str, ...]) -> list[str]:
    """The same VFs, each of which has an index of its own."""
    counts: dict[str, int] = {}
    words = []
    for text in vfs:
        label, colon, _ = text.partition(":")
        counts[label] = counts.get(label, -1) + 1
        words.append(quoted(text if colon else f"{label}:{counts[label]}"))
    return words


def check_nic_bridges(
    bridges: Iterable[tuple[BridgeRule, Location]], guests: Iterable[tuple[GuestRule, Location]]
) -> Iterator[Problem]:
    """Of a foreign bridge it is known only on the host."""
    unfiltered = {rule.name: at for rule, at in bridges if not rule.vlan_filtering}
    for rule, at in guests:
        for number, nic in enumerate(rule.nic):
            if nic.vlan is not None and nic.bridge in unfiltered:
                text = f"found a VLAN on bridge {nic.bridge}, which does not filter by VLAN"
                allowed = f"with vlan_filtering = true in {unfiltered[nic.bridge]}"
                yield (at / "nic" / number / "vlan").problem(f"{text}, allowed is {allowed}")


def nic_macs(guests: Iterable[tuple[GuestRule, Location]]) -> Iterator[tuple[str, Location]]:
    for rule, at in guests:
        for number, nic in enumerate(rule.nic):
            if nic.mac not in (None, _STABLE):
                yield nic.mac or "", at / "nic" / number / "mac"
