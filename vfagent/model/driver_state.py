# SPDX-License-Identifier: Apache-2.0
"""What steps revealed about a PF's driver and cannot be observed again. A cache: if lost, each costs one attempt."""

from collections.abc import Collection
from dataclasses import field, replace

from vfagent.frozen import frozen
from vfagent.model.inventory import Pf
from vfagent.model.vf_settings import ISOLATING, Attribute, VfSettings

# What a driver may refuse for as long as the link is down: rates, against its speed, and what isolates.
_OF_THE_LINK = ISOLATING | {Attribute.RATE, Attribute.MIN_TX_RATE}


@frozen
class StepResult:
    """What a step that did not fail revealed about the driver. `full`: the FDB accepts no more entries."""

    unsupported: dict[Attribute, str] = field(default_factory=dict)  # refused, with the kernel's answer
    applied: VfSettings = VfSettings()
    full: bool = False
    fdb_refusal: str = ""  # why the card refused an FDB entry
    made: int | None = None  # number of VFs, if the driver created another than requested


@frozen
class DriverState:
    """Valid for one driver on one netdev. `applied` replaces the settings that the driver does not report."""

    driver: str | None = None
    ifindex: int | None = None
    eswitch: str | None = None  # as last observed
    carrier: bool | None = None
    unsupported: dict[Attribute, str] = field(default_factory=dict)  # refused lately, with the kernel's answer
    applied: dict[int, VfSettings] = field(default_factory=dict)
    hwmode: str | None = None  # as set, on a driver that does not report it
    fdb: frozenset[str] = frozenset()  # entries that vfagent added to the PF's FDB
    fdb_full: int | None = None  # number of entries the NIC accepted before it refused one
    fdb_refusal: str = ""  # why the card refused an entry in this reconcile: the next one tries again
    wire: frozenset[str] = frozenset()  # neighbours of the host that a bridge above the PF had on the wire
    brought_up: bool = False  # vfagent set the PF up
    joined: frozenset[tuple[str, str]] = frozenset()  # (port, foreign bridge): ports that vfagent put into it
    addressed: bool = False  # a VLAN interface on it had addresses: they can outlive it, on a foreign bridge
    unbound: dict[int, str] = field(default_factory=dict)  # VFs that keep a driver, and it, while they have none
    most_vfs: int | None = None  # number of VFs the driver created when more were requested
    least_vfs: int | None = None  # number of VFs the driver created when fewer were requested
    changed: bool = False  # vfagent has changed the PF, which was as others made it before

    def for_pf(self, pf: Pf) -> "DriverState":
        """This state if it is valid for the PF as it is now, else an empty one, but for the drivers of unbound VFs: a
        change of the eswitch mode, for which they were unbound, may have replaced the netdev. What was put into a
        bridge is known by its name. Whether the PF was changed is its own matter."""
        ifindex, carrier = (pf.netdev.ifindex, pf.netdev.carrier) if pf.netdev else (None, None)
        if (self.driver, self.ifindex) == (pf.driver, ifindex):
            return self._observed(pf.eswitch or self.eswitch, carrier=carrier)
        empty = DriverState(driver=pf.driver, ifindex=ifindex, unbound=self.unbound, joined=self.joined)
        return replace(empty, eswitch=pf.eswitch, carrier=carrier, changed=self.changed)

    def _observed(self, eswitch: str | None, *, carrier: bool | None) -> "DriverState":
        """What was refused in another eswitch mode, or before the link came up, may be accepted now."""
        if (self.eswitch, self.carrier) == (eswitch, carrier):
            return self
        state = replace(self, eswitch=eswitch, carrier=carrier)
        if self.eswitch and self.eswitch != eswitch:
            return state.without_refusals()
        came_up = self.carrier is False and carrier
        return state.without_refusals(keep=frozenset(Attribute) - _OF_THE_LINK) if came_up else state

    def without_refusals(self, *, keep: Collection[Attribute] = ()) -> "DriverState":
        """The state with which what was refused is tried again, less what is to be kept."""
        return replace(self, unsupported={name: answer for name, answer in self.unsupported.items() if name in keep})

    def with_applied(self, index: int, settings: VfSettings) -> "DriverState":
        return replace(self, applied={**self.applied, index: settings})

    def updated(self, result: StepResult) -> "DriverState":
        return replace(self, unsupported={**self.unsupported, **result.unsupported})

    def with_made(self, made: int, asked: int) -> "DriverState":
        return replace(self, most_vfs=made) if made < asked else replace(self, least_vfs=made)

    def without_vfs(self) -> "DriverState":
        """The state after the VFs were removed: their settings are gone with them.

        What isolates a VF is tried again on the new ones: "not supported" may have been true of that moment alone.
        """
        return replace(self.without_refusals(keep=frozenset(Attribute) - ISOLATING), applied={}, hwmode=None)
