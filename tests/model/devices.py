# SPDX-License-Identifier: Apache-2.0
"""The fake kernel's devices: PFs, VFs and netdevs, with their current state."""

from dataclasses import dataclass, field
from enum import StrEnum

from tests.model.drivers import PfDriver
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import LinkState, Rate, VfSettings, Vlan

VFIO = "vfio-pci"
VARIANT = "model_vfio_pci"  # a VFIO driver of the card
NAMELESS = "model_passthrough"  # one whose name does not tell
VFIO_DRIVERS = frozenset({VFIO, VARIANT, NAMELESS})
NO_MAC = "00:00:00:00:00:00"
NO_GUID = "00:00:00:00:00:00:00:00"
UNTOUCHED = VfSettings(
    NO_MAC,
    Vlan(0),
    Rate(0, 0),
    spoof_check=True,
    trust=False,
    link_state=LinkState.AUTO,
    rss_query=False,
    node_guid=NO_GUID,
    port_guid=NO_GUID,
)


class Groups(StrEnum):
    """How the platform groups devices into IOMMU groups."""

    OWN = "own"
    WITH_PF = "with the PF"
    ONE_FOR_VFS = "one for all VFs"
    NONE = "none"


@dataclass(slots=True)
class NetDevice:
    name: str
    ifindex: int
    mac: str
    mtu: int = 1500
    admin_up: bool = False
    cable: bool = True
    known_to_udev: bool = True
    master: str | None = None
    addressed: bool = False
    default_route: bool = False
    uppers: list[str] = field(default_factory=list)

    @property
    def carrier(self) -> bool:
        return self.admin_up and self.cable

    @property
    def in_use(self) -> bool:
        return self.admin_up or self.addressed or self.master is not None


@dataclass(slots=True)
class VfDevice:
    index: int
    address: PciAddress
    group: int | None
    driver: str | None = None
    override: str | None = None
    group_open: bool = False  # a process has its VFIO group open
    netdev: NetDevice | None = None
    away: bool = False  # its netdev is in another network namespace
    mounted: bool = False  # the file system on its block device
    busy: bool = False  # the host uses what its driver makes of it, and nothing shows that
    settings: VfSettings = UNTOUCHED
    read: VfSettings = UNTOUCHED  # what was set when its host driver was bound

    @property
    def in_use(self) -> bool:
        by_netdev = self.away or (self.netdev is not None and self.netdev.in_use)
        return self.group_open or by_netdev or self.mounted or self.busy

    @property
    def enabled(self) -> bool:
        return self.group_open if self.driver in VFIO_DRIVERS else self.driver is not None

    @property
    def disk(self) -> str:
        """The name of its block device, where the driver makes one."""
        return f"nvme{int(self.address[5:7], 16)}{int(self.address[8:10], 16)}{self.address[-1]}n1"


@dataclass(slots=True)
class PfDevice:
    address: PciAddress
    kind: PfDriver
    totalvfs: int
    groups: Groups
    driver: str | None
    autoprobe: bool = True
    stride: int = 1
    moving: bool = False  # the first VF's offset changes with the count
    netdev: NetDevice | None = None
    vfs: list[VfDevice] = field(default_factory=list)
    plugged: bool = True
    hwmode: str | None = None  # the driver resets it when the last VF is removed
    starting: bool = True  # its driver refuses what it supports later

    @property
    def in_use(self) -> bool:
        return any(vf.in_use for vf in self.vfs)

    def vf_address(self, index: int, count: int) -> PciAddress:
        offset = 0x20 if self.moving and count > 4 else 0x10
        bus, rest = int(self.address[5:7], 16), int(self.address[8:10], 16) << 3 | int(self.address[11])
        number = (bus << 8 | rest) + offset + index * self.stride
        return PciAddress(f"0000:{number >> 8:02x}:{number >> 3 & 31:02x}.{number & 7}")
