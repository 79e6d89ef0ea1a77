# SPDX-License-Identifier: Apache-2.0
"""The desired state of one PF, with every count and pattern of the policy resolved."""

from dataclasses import field

from vfagent.frozen import frozen
from vfagent.model.evidence import serves_host
from vfagent.model.inventory import Vf
from vfagent.model.network import VlanTag
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import VfSettings

HOST_DRIVER = "host"
"""The policy's keyword for the kernel's default VF driver."""

NO_DRIVER = "none"

KEEP_DRIVER = "keep"
"""The VF's driver is another program's matter: it stays, or stays absent."""


@frozen(slots=True)
class DesiredVf:
    """The desired state of one VF. Settings that are None are not changed."""

    index: int
    driver: str  # a driver's name, HOST_DRIVER, NO_DRIVER or KEEP_DRIVER
    settings: VfSettings
    bridge: str | None = None  # the bridge of its representor
    optional: tuple[str, ...] = ()  # isolation that it can be without, by attribute


def driver_word(vf: Vf) -> str:
    """What brings its present driver back. A driver that came without an override is to come back without one."""
    if not serves_host(vf.driver, vfio_dev=vf.vfio_dev) or vf.driver_override:
        return vf.driver or NO_DRIVER
    return HOST_DRIVER


@frozen
class DesiredBridge:
    """A [[bridge]] rule. Without `mtu` the bridge has the MTU of its ports."""

    name: str
    vlan_filtering: bool = False
    mtu: int | None = None


@frozen
class DesiredVlanInterface:
    """A VLAN interface of the host on a PF. If it has a bridge, the addresses are on the bridge."""

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
        """The interface that the addresses are taken from, unless it is the one that is to have them."""
        return None if self.take_addresses_from == self.address_owner else self.take_addresses_from


@frozen
class DesiredPf:
    """`numvfs` None: the rule sets no number of VFs. `problem`: why the rule cannot be applied to this PF."""

    address: PciAddress
    rule: str
    numvfs: int | None
    mtu: int | None
    vfs: tuple[DesiredVf, ...]
    allow_management: bool = False
    ends_trial: bool = False  # what carries a session may be what nobody could confirm
    problem: str | None = None
    hwmode: str | None = None
    eswitch: str | None = None
    fdb: bool = False  # keep the MACs of the bridges above the PF in its FDB
    vlan_interfaces: tuple[DesiredVlanInterface, ...] = ()
    bridges: tuple[DesiredBridge, ...] = ()  # of the VLAN interfaces and representors, if they have a rule
    # Of all rules, as a bridge can have VLAN interfaces of several PFs: (interface, address) and (source, target).
    kept_addresses: tuple[tuple[str, str], ...] = ()
    kept_moves: tuple[tuple[str, str], ...] = ()
    port: int | None = None  # the ifindex of the netdev that the rule names, where that is not the PF's first
    assume_idle: bool = False  # a VF of which nothing shows whether it is used
    shadowed_rules: tuple[str, ...] = field(default=(), compare=False)  # later rules that match too
