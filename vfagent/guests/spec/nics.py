# SPDX-License-Identifier: Apache-2.0
"""A guest's virtio NICs, each on a tap that is a port of a bridge. Pure."""

import hashlib

from vfagent.errors import VfagentError
from vfagent.frozen import frozen
from vfagent.model.guest_unit import GuestVf
from vfagent.policy.match import stable_mac
from vfagent.policy.references import standby_positions
from vfagent.policy.types import GuestRule

_TAP_PREFIX = "vfg-"


@frozen(slots=True)
class Tap:
    """The host's end of a NIC. `mac` is a high one, as a bridge takes the lowest MAC of its ports for its own."""

    name: str
    bridge: str
    vlan: int | None
    mac: str


@frozen(slots=True)
class GuestNic:
    """`mac` is the guest's; `standby_for`: which of the guest's VFs it stands in for."""

    tap: Tap
    mac: str
    standby_for: int | None = None


def taps_of(rule: GuestRule, machine_id: str) -> tuple[Tap, ...]:
    name = _digest(rule, machine_id)[8:12].hex()
    macs = (_stable(rule, machine_id, number) for number in range(len(rule.nic)))
    return tuple(
        Tap(f"{_TAP_PREFIX}{name}-{number}", nic.bridge, nic.vlan, f"fe{mac[2:]}")
        for number, (nic, mac) in enumerate(zip(rule.nic, macs, strict=True))
    )


def nics_of(rule: GuestRule, vfs: tuple[GuestVf, ...], machine_id: str) -> tuple[GuestNic, ...]:
    """`vfs` in the order of the rule. Raises VfagentError where a VF has no MAC that its standby could share."""
    nics = []
    for number, (nic, tap) in enumerate(zip(rule.nic, taps_of(rule, machine_id), strict=True)):
        if nic.standby_for is not None:
            [position] = standby_positions(rule.vfs, nic.standby_for)
            nics.append(GuestNic(tap, _shared_mac(vfs[position]), position))
        else:
            fixed = None if nic.mac == "stable" else nic.mac
            nics.append(GuestNic(tap, fixed or _stable(rule, machine_id, number)))
    return tuple(nics)


def _digest(rule: GuestRule, machine_id: str) -> bytes:
    return hashlib.sha256(f"vfagent {machine_id} guest {rule.name}".encode()).digest()


def _stable(rule: GuestRule, machine_id: str, number: int) -> str:
    return stable_mac(int.from_bytes(_digest(rule, machine_id)[:8], "big"), number)


def _shared_mac(vf: GuestVf) -> str:
    """The guest's driver finds the pair by their MAC (net_failover.rst)."""
    if not vf.mac:
        raise VfagentError(
            f"{vf}: has no MAC that its standby NIC can share", hint='set mac = "stable" in its [[pf.vf]]'
        )
    return vf.mac
