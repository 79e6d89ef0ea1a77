# SPDX-License-Identifier: Apache-2.0
"""The steps on the host's own network and on the card's switch, as values: links, addresses, FDB and modes.

`pf` is the PF that a step is done for; it is empty for a bridge that no PF needs.
"""

from dataclasses import fields

from vfagent.frozen import frozen
from vfagent.model.autoconf import Ipv6Conf
from vfagent.model.network import Move, VlanTag
from vfagent.model.pci import PciAddress
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
    """Change a link. `ifindex` is None for a link that the same plan creates.

    `leaves`, here and below, is what the link is a port of and may be taken out of; None: it is no port.
    """

    KEY = ("name", "change")
    CHANGES = "link"

    pf: PciAddress
    name: str
    ifindex: int | None
    change: LinkChange
    leaves: str | None = None

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
        case _, bool():
            return f"{name} {'on' if value else 'off'}"
        case _:
            return f"{name} {value}"


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
    leaves: str | None = None

    def describe(self) -> str:
        return f"set {self.name}, representor of {self.pf}/vf{self.index}, {_describe_change(self.change)}"


@frozen
class SetAutoconf(StepFacts):
    """Set whether an interface takes what routers advertise. `ifindex` is None for a link that this plan creates."""

    KEY = ("name",)
    CHANGES = "ipv6_autoconf"

    pf: PciAddress
    name: str
    ifindex: int | None
    conf: Ipv6Conf

    def describe(self) -> str:
        if self.conf.open:
            return f"restore IPv6 autoconfiguration of {self.name}"
        return f"keep {self.name} out of IPv6 autoconfiguration"


@frozen
class DeleteLink(StepFacts):
    """Remove a managed VLAN interface or bridge."""

    KEY = ("name",)
    CHANGES = "link"

    pf: PciAddress
    name: str
    ifindex: int
    leaves: str | None = None

    def describe(self) -> str:
        return f"remove {self.name}"

    @property
    def destroys(self) -> bool:
        return True


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

    @property
    def destroys(self) -> bool:
        return True


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
FdbStep = AddFdb | RemoveFdb
SwitchStep = FdbStep | SetHwmode | SetEswitch
NetworkStep = LinkStep | AddressStep | SwitchStep | SetAutoconf
