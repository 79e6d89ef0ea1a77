# SPDX-License-Identifier: Apache-2.0
"""Steps on the host's own network: links, addresses, and the card's switch. `pf` is the PF they are done for."""

from dataclasses import fields

from vfagent.frozen import frozen
from vfagent.model.network import Move, VlanTag
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import VfSettings


@frozen
class CreateVlan:
    """Make a VLAN device and mark it as ours."""

    pf: PciAddress
    parent: str
    ifindex: int  # the parent's
    name: str
    tag: VlanTag

    def describe(self) -> str:
        return f"create VLAN device {self.name} ({self.tag}) on {self.parent}"


@frozen
class CreateBridge:
    """Make a bridge and mark it as ours. `pf` is empty where no PF asks for it."""

    pf: PciAddress
    name: str

    def describe(self) -> str:
        return f"create bridge {self.name}"


@frozen
class MarkLink:
    """What a vfagent made that was killed before it could say so."""

    pf: PciAddress
    name: str
    ifindex: int

    def describe(self) -> str:
        return f"mark {self.name} as made by vfagent"


@frozen
class LinkChange:
    """None leaves it alone. `bridge` "" releases a port. A name for a bridge that may not be there yet."""

    mtu: int | None = None
    up: bool | None = None
    bridge: str | None = None
    vlan_filtering: bool | None = None


@frozen
class SetLink:
    """`ifindex` is None for a link that is made in the same plan."""

    pf: PciAddress
    name: str
    ifindex: int | None
    change: LinkChange

    def describe(self) -> str:
        words = (_change_word(one.name, getattr(self.change, one.name)) for one in fields(LinkChange))
        return f"set {self.name} {', '.join(word for word in words if word)}"


def _change_word(name: str, value: object) -> str:
    match name, value:
        case _, None:
            return ""
        case "up", _:
            return "up" if value else "down"
        case "bridge", "":
            return "free of its bridge"
        case "bridge", _:
            return f"a port of {value}"
        case "vlan_filtering", _:
            return f"vlan_filtering {'on' if value else 'off'}"
        case _:
            return f"{name} {value}"


@frozen
class SetRepresentor:
    """The netdev that stands for a VF in switchdev mode. It is the driver's, and the PF's rule is for it."""

    pf: PciAddress
    index: int
    name: str
    ifindex: int
    change: LinkChange

    def describe(self) -> str:
        words = (_change_word(one.name, getattr(self.change, one.name)) for one in fields(LinkChange))
        return f"set {self.name}, representor of {self.pf}/vf{self.index}, {', '.join(word for word in words if word)}"


@frozen
class DeleteLink:
    """Remove a VLAN device or a bridge that is ours."""

    pf: PciAddress
    name: str
    ifindex: int

    def describe(self) -> str:
        return f"remove {self.name}"


@frozen
class AddAddress:
    """Give a device an address, with its prefix length."""

    pf: PciAddress
    name: str
    address: str

    def describe(self) -> str:
        return f"add address {self.address} to {self.name}"


@frozen
class RemoveAddress:
    """Take an address, with its prefix length, from a device."""

    pf: PciAddress
    name: str
    address: str

    def describe(self) -> str:
        return f"remove address {self.address} from {self.name}"


@frozen
class MoveAddresses:
    """Addresses, and the routes that depend on them, to another interface; back again where the probe fails."""

    pf: PciAddress
    move: Move

    def describe(self) -> str:
        probe = f", if {self.move.probe} answers then" if self.move.probe else ""
        return f"move {', '.join(self.move.addresses)} with routes from {self.move.source} to {self.move.target}{probe}"


@frozen
class RollBackMove:
    """A move that was begun and is not wanted any more."""

    pf: PciAddress
    move: Move

    def describe(self) -> str:
        return f"move {', '.join(self.move.addresses)} with routes back from {self.move.target} to {self.move.source}"


@frozen
class AddFdb:
    """Have a card pass frames for `mac` to its PF, which it else would not look for there."""

    pf: PciAddress
    ifindex: int
    mac: str

    def describe(self) -> str:
        return f"add {self.mac} to the FDB of {self.pf}"


@frozen
class RemoveFdb:
    """Take an entry of ours out of a card's table."""

    pf: PciAddress
    ifindex: int
    mac: str

    def describe(self) -> str:
        return f"remove {self.mac} from the FDB of {self.pf}"


@frozen
class SetHwmode:
    """How a card's embedded bridge passes frames between VFs: `veb`, by itself, or `vepa`, by the switch."""

    pf: PciAddress
    ifindex: int
    mode: str

    def describe(self) -> str:
        return f"set hwmode of {self.pf} to {self.mode}"


@frozen
class SetEswitch:
    """devlink's mode of a card's switch: `legacy` or `switchdev`. VFs do not outlive the change on every driver."""

    pf: PciAddress
    mode: str

    def describe(self) -> str:
        return f"set the eswitch of {self.pf} to {self.mode}"


LinkStep = CreateVlan | CreateBridge | MarkLink | SetLink | SetRepresentor | DeleteLink
AddressStep = AddAddress | RemoveAddress | MoveAddresses | RollBackMove
SwitchStep = AddFdb | RemoveFdb | SetHwmode | SetEswitch
NetworkStep = LinkStep | AddressStep | SwitchStep


@frozen
class SetAutoprobe:
    """Whether VFs that are made get a host driver by themselves."""

    pf: PciAddress
    on: bool

    def describe(self) -> str:
        return f"set sriov_drivers_autoprobe of {self.pf} to {int(self.on)}"


@frozen
class SetNumvfs:
    """Write `sriov_numvfs`. The kernel wants 0 between two counts, so `count` or what stands is 0."""

    pf: PciAddress
    count: int

    def describe(self) -> str:
        return f"create {self.count} VFs on {self.pf}" if self.count else f"remove all VFs of {self.pf}"


@frozen
class SetMtu:
    """The MTU of a PF's netdev, in bytes."""

    pf: PciAddress
    ifindex: int
    mtu: int

    def describe(self) -> str:
        return f"set MTU of {self.pf} to {self.mtu}"


@frozen
class SetAdminState:
    """Bring a PF's netdev up or down."""

    pf: PciAddress
    ifindex: int
    up: bool

    def describe(self) -> str:
        return f"set {self.pf} {'up' if self.up else 'down'}"


@frozen
class ConfigureVf:
    """Set attributes of a VF through its PF; only those that are not None."""

    pf: PciAddress
    ifindex: int
    index: int
    settings: VfSettings

    def describe(self) -> str:
        return f"set {self.pf}/vf{self.index} {describe_settings(self.settings)}"


@frozen
class BindDriver:
    """Bind a VF to `driver` by driver_override, or to the kernel's own VF driver where it is None.

    `address` is None for a VF that is still to be made: where it will be is the kernel's to say.
    """

    pf: PciAddress
    index: int
    address: PciAddress | None
    driver: str | None

    def describe(self) -> str:
        address = f" ({self.address})" if self.address else ""
        return f"bind {self.pf}/vf{self.index}{address} to {self.driver or 'its host driver'}"


@frozen
class UnbindDriver:
    """Leave a VF without a driver, and without an override that would bring one back."""

    pf: PciAddress
    index: int
    address: PciAddress

    def describe(self) -> str:
        return f"unbind {self.pf}/vf{self.index} ({self.address})"


PfStep = SetAutoprobe | SetNumvfs | SetMtu | SetAdminState | ConfigureVf | BindDriver | UnbindDriver
Step = PfStep | NetworkStep


def describe_settings(settings: VfSettings) -> str:
    """`mac 02:…, vlan 10`: the attributes that are set."""
    values = ((field.name, getattr(settings, field.name)) for field in fields(settings))
    return ", ".join(f"{name} {_word(value)}" for name, value in values if value is not None)


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)
