# SPDX-License-Identifier: Apache-2.0
"""What the policy wants of one PF, with every count and pattern resolved."""

from dataclasses import field

from vfagent.frozen import frozen
from vfagent.model.network import VlanTag
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import VfSettings

HOST_DRIVER = "host"
"""Policy's word for the kernel's own VF driver, whichever that is."""

NO_DRIVER = "none"


@frozen
class DesiredVf:
    """What the policy says of one VF. What `settings` leaves open stays as it is."""

    index: int
    driver: str  # a driver's name, HOST_DRIVER or NO_DRIVER
    settings: VfSettings
    bridge: str | None = None  # that its representor is to be a port of


@frozen
class DesiredBridge:
    """What a [[bridge]] rule says. Without `mtu` it follows its ports."""

    name: str
    vlan_filtering: bool = False
    mtu: int | None = None


@frozen
class DesiredVlanInterface:
    """The host's own VLAN device on a PF. Its bridge holds the addresses where it has one."""

    name: str
    tag: VlanTag
    mtu: int | None = None
    bridge: str | None = None
    addresses: tuple[str, ...] = ()
    take_addresses_from: str | None = None
    probe: str | None = None
    allow_management: bool = False

    @property
    def address_owner(self) -> str:
        return self.bridge or self.name

    @property
    def source(self) -> str | None:
        """Where its addresses are taken from, if that is not where they are to be."""
        return None if self.take_addresses_from == self.address_owner else self.take_addresses_from


@frozen
class DesiredPf:
    """`numvfs` None: the rule says nothing of the count. `problem`: the rule cannot be met on this PF."""

    address: PciAddress
    rule: str
    numvfs: int | None
    mtu: int | None
    vfs: tuple[DesiredVf, ...]
    allow_management: bool = False
    problem: str | None = None
    hwmode: str | None = None
    eswitch: str | None = None
    vlan_interfaces: tuple[DesiredVlanInterface, ...] = ()
    bridges: tuple[DesiredBridge, ...] = ()  # that legs and representors are ports of, where the policy makes them
    # Of all rules, since a bridge may have legs on several PFs: what is to be held by whom, and taken from whom.
    kept_addresses: tuple[tuple[str, str], ...] = ()
    kept_moves: tuple[tuple[str, str], ...] = ()
    shadowed_rules: tuple[str, ...] = field(default=(), compare=False)  # rules that match too, and come later
