# SPDX-License-Identifier: Apache-2.0
"""The steps of a plan, as values. `vfagent plan` prints `describe()`; the executor executes the same values.

`pf` is the PF that a step is done for; it is empty for a bridge that no PF needs.
"""

from dataclasses import fields
from typing import get_args

from vfagent.frozen import frozen
from vfagent.model.network import Move, VlanTag
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import VfSettings
from vfagent.plan.step_facts import StepFacts


@frozen
class CreateVlan(StepFacts):
    """Create a VLAN interface and mark it as managed."""

    KEY = ("name",)
    CHANGES = "link"

    pf: PciAddress
    parent: str
    ifindex: int  # the parent's
    name: str
    tag: VlanTag

    def describe(self) -> str:
        return f"create VLAN interface {self.name} ({self.tag}) on {self.parent}"


@frozen
class CreateBridge(StepFacts):
    """Create a bridge and mark it as managed. `pf` is empty where no PF needs it."""

    KEY = ("name",)
    CHANGES = "link"

    pf: PciAddress
    name: str

    def describe(self) -> str:
        return f"create bridge {self.name}"


@frozen
class MarkLink(StepFacts):
    """Mark a link that vfagent created, and was killed before it could mark it."""

    KEY = ("name",)
    CHANGES = "link"

    pf: PciAddress
    name: str
    ifindex: int

    def describe(self) -> str:
        return f"mark {self.name} as managed by vfagent"


@frozen
class LinkChange:
    """None: no change. `bridge` is a name, since the bridge may not exist yet; "" removes the port from its bridge."""

    mtu: int | None = None
    up: bool | None = None
    bridge: str | None = None
    vlan_filtering: bool | None = None


@frozen
class SetLink(StepFacts):
    """Change a link. `ifindex` is None for a link that the same plan creates."""

    KEY = ("name", "change")
    CHANGES = "link"

    pf: PciAddress
    name: str
    ifindex: int | None
    change: LinkChange

    def describe(self) -> str:
        return f"set {self.name} {_describe_change(self.change)}"


def _describe_change(change: LinkChange) -> str:
    words = (_change_word(field.name, getattr(change, field.name)) for field in fields(change))
    return ", ".join(word for word in words if word)


def _change_word(name: str, value: object) -> str:
    match name, value:
        case _, None:
            return ""
        case "up", _:
            return "up" if value else "down"
        case "bridge", _:
            return f"master {value}" if value else "nomaster"
        case _:
            return f"{name} {_word(value)}"


@frozen
class SetRepresentor(StepFacts):
    """Change the representor of a VF in switchdev mode. The driver creates it; the PF's rule covers it."""

    KEY = ("pf", "index")
    CHANGES = "link"

    pf: PciAddress
    index: int
    name: str
    ifindex: int
    change: LinkChange

    def describe(self) -> str:
        return f"set {self.name}, representor of {self.pf}/vf{self.index}, {_describe_change(self.change)}"


@frozen
class DeleteLink(StepFacts):
    """Remove a managed VLAN interface or bridge."""

    KEY = ("name",)
    CHANGES = "link"

    pf: PciAddress
    name: str
    ifindex: int

    def describe(self) -> str:
        return f"remove {self.name}"


@frozen
class AddAddress(StepFacts):
    """Add an address, with its prefix length, to a link."""

    KEY = ("name", "address")
    CHANGES = "address"

    pf: PciAddress
    name: str
    address: str

    def describe(self) -> str:
        return f"add address {self.address} to {self.name}"


@frozen
class RemoveAddress(StepFacts):
    """Remove an address, with its prefix length, from a link."""

    KEY = ("name", "address")
    CHANGES = "address"

    pf: PciAddress
    name: str
    address: str

    def describe(self) -> str:
        return f"remove address {self.address} from {self.name}"


@frozen
class MoveAddresses(StepFacts):
    """Move addresses, and the routes that depend on them, to another link; roll back if the probe fails."""

    KEY = ("move.source", "move.target")
    CHANGES = "address"

    pf: PciAddress
    move: Move

    def describe(self) -> str:
        probe = f", then probe {self.move.probe}" if self.move.probe else ""
        return f"move {', '.join(self.move.addresses)} with routes from {self.move.source} to {self.move.target}{probe}"


@frozen
class RollBackMove(StepFacts):
    """Roll back an interrupted move that is not wanted any more."""

    KEY = ("move.source", "move.target")
    CHANGES = "address"

    pf: PciAddress
    move: Move

    def describe(self) -> str:
        return f"move {', '.join(self.move.addresses)} with routes back from {self.move.target} to {self.move.source}"


@frozen
class AddFdb(StepFacts):
    """Add an FDB entry to the card, so that VFs' frames to `mac` reach the PF and not the wire."""

    KEY = ("pf", "mac")
    CHANGES = "fdb"

    pf: PciAddress
    ifindex: int
    mac: str

    def describe(self) -> str:
        return f"add {self.mac} to the FDB of {self.pf}"


@frozen
class RemoveFdb(StepFacts):
    """Remove an FDB entry that vfagent added to the card."""

    KEY = ("pf", "mac")
    CHANGES = "fdb"

    pf: PciAddress
    ifindex: int
    mac: str

    def describe(self) -> str:
        return f"remove {self.mac} from the FDB of {self.pf}"


@frozen
class SetHwmode(StepFacts):
    """How a card's embedded bridge forwards frames between VFs: `veb`, itself, or `vepa`, by the next switch."""

    KEY = ("pf",)
    CHANGES = "hwmode"

    pf: PciAddress
    ifindex: int
    mode: str

    def describe(self) -> str:
        return f"set hwmode of {self.pf} to {self.mode}"


@frozen
class SetEswitch(StepFacts):
    """Set the devlink eswitch mode: `legacy` or `switchdev`. Not every driver keeps VFs across the change."""

    KEY = ("pf", "mode")
    CHANGES = "eswitch"

    pf: PciAddress
    mode: str

    def describe(self) -> str:
        return f"set eswitch mode of {self.pf} to {self.mode}"

    @property
    def deadline_s(self) -> float:
        """A ConnectX-6 Lx takes 65 s for 125 VFs."""
        return 180.0


LinkStep = CreateVlan | CreateBridge | MarkLink | SetLink | SetRepresentor | DeleteLink
AddressStep = AddAddress | RemoveAddress | MoveAddresses | RollBackMove
SwitchStep = AddFdb | RemoveFdb | SetHwmode | SetEswitch
NetworkStep = LinkStep | AddressStep | SwitchStep


@frozen
class SetAutoprobe(StepFacts):
    """Whether the kernel binds new VFs to their host driver."""

    KEY = ("pf", "on")
    CHANGES = "autoprobe"

    pf: PciAddress
    on: bool

    def describe(self) -> str:
        return f"set sriov_drivers_autoprobe of {self.pf} to {int(self.on)}"


@frozen
class SetNumvfs(StepFacts):
    """Write `sriov_numvfs`. The kernel wants 0 between two counts, so `count` or the current value is 0."""

    KEY = ("pf", "count")
    CHANGES = "numvfs"

    pf: PciAddress
    count: int

    def describe(self) -> str:
        return f"create {self.count} VFs on {self.pf}" if self.count else f"remove all VFs of {self.pf}"

    @property
    def deadline_s(self) -> float:
        """The kernel sleeps for a second in a removal; some drivers take 22 s to create 64 VFs, 65 s for 125."""
        return 30.0 + self.count if self.count else 60.0


@frozen
class SetMtu(StepFacts):
    """Set the MTU of a PF's netdev, in bytes."""

    KEY = ("pf",)
    CHANGES = "mtu"

    pf: PciAddress
    ifindex: int
    mtu: int

    def describe(self) -> str:
        return f"set MTU of {self.pf} to {self.mtu}"


@frozen
class SetAdminState(StepFacts):
    """Bring a PF's netdev up or down."""

    KEY = ("pf", "up")
    CHANGES = "admin_state"

    pf: PciAddress
    ifindex: int
    up: bool

    def describe(self) -> str:
        return f"set {self.pf} {'up' if self.up else 'down'}"


@frozen
class ConfigureVf(StepFacts):
    """Set those attributes of a VF, through its PF, that are not None."""

    KEY = ("pf", "index")

    pf: PciAddress
    ifindex: int
    index: int
    settings: VfSettings

    def describe(self) -> str:
        return f"set {self.pf}/vf{self.index} {describe_settings(self.settings)}"

    @property
    def changes(self) -> tuple[str, ...]:
        values = ((field.name, getattr(self.settings, field.name)) for field in fields(self.settings))
        return tuple(name for name, value in values if value is not None)


@frozen
class BindDriver(StepFacts):
    """Bind a VF to `driver` by driver_override, or to its host driver where `driver` is None.

    `address` is None for a VF that does not exist yet: the kernel assigns it.
    """

    KEY = ("pf", "index", "driver")
    CHANGES = "driver"

    pf: PciAddress
    index: int
    address: PciAddress | None
    driver: str | None

    def describe(self) -> str:
        address = f" ({self.address})" if self.address else ""
        return f"bind {self.pf}/vf{self.index}{address} to {self.driver or 'its host driver'}"


@frozen
class UnbindDriver(StepFacts):
    """Unbind a VF, and clear the driver_override that would bind it again."""

    KEY = ("pf", "index")
    CHANGES = "driver"

    pf: PciAddress
    index: int
    address: PciAddress

    def describe(self) -> str:
        return f"unbind {self.pf}/vf{self.index} ({self.address})"


VfStep = ConfigureVf | BindDriver | UnbindDriver
PfStep = SetAutoprobe | SetNumvfs | SetMtu | SetAdminState | ConfigureVf | BindDriver | UnbindDriver
Step = PfStep | NetworkStep

KINDS: tuple[str, ...] = tuple(step.KIND for step in get_args(Step))


def describe_settings(settings: VfSettings) -> str:
    """`mac 02:…, vlan 10`: the attributes that are set."""
    values = ((field.name, getattr(settings, field.name)) for field in fields(settings))
    return ", ".join(f"{name} {_word(value)}" for name, value in values if value is not None)


def _word(value: object) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)
