# SPDX-License-Identifier: Apache-2.0
"""The observed state of a host: PFs and their VFs, as frozen values."""

from vfagent.frozen import frozen
from vfagent.model.network import HostNetwork
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import VfSettings


@frozen
class Netdev:
    """A netdev of a PF or VF. `initialized`: by udev, so its name will not change any more."""

    name: str
    ifindex: int
    mac: str
    permanent_mac: str | None
    mtu: int
    admin_up: bool
    carrier: bool = True
    initialized: bool = True
    master: str | None = None
    addressed: bool = False
    management: str | None = None  # why the host may be administered through it


@frozen
class Vf:
    """One VF. It is identified by (PF, index): its PCI address can change when it is created again."""

    index: int
    address: PciAddress
    driver: str | None = None
    driver_override: str | None = None
    enabled: bool = False  # the PCI device is enabled; on vfio-pci: its VFIO device is open
    iommu_group: int | None = None
    group_blockers: tuple[
        PciAddress, ...
    ] = ()  # other devices of its IOMMU group that have a driver other than vfio-pci
    netdevs: tuple[Netdev, ...] = ()
    settings: VfSettings | None = None  # None: the PF's driver does not report them
    user: str | None = None  # the guest it is assigned to, while that runs


@frozen
class Pf:
    """A PCI function with the SR-IOV capability. `netdev` is None if it is no NIC or has not been probed yet."""

    address: PciAddress
    driver: str | None
    vendor: str
    device: str
    pci_class: str
    totalvfs: int
    autoprobe: bool | None
    vfs: tuple[Vf, ...] = ()
    netdev: Netdev | None = None
    vendor_name: str | None = None
    device_name: str | None = None
    path: str | None = None  # udev's ID_PATH
    numa_node: int | None = None
    eswitch: str | None = None
    hwmode: str | None = None
    initialized: bool = True  # udev has processed the PCI device, including its driver's module
    unobserved: str | None = None  # what could not be observed and why
    network: HostNetwork | None = None  # observed only if its rule or something vfagent made on it needs it

    @property
    def is_nic(self) -> bool:
        return self.pci_class.startswith("0x02")

    @property
    def name(self) -> str:
        """For messages: the address and, if there is one, the interface."""
        return f"{self.address} ({self.netdev.name})" if self.netdev else self.address


@frozen
class Inventory:
    """All PFs of a host, sorted by address."""

    pfs: tuple[Pf, ...]


VFIO_DRIVER = "vfio-pci"


def vf_in_use(vf: Vf, *, nic: bool) -> str | None:
    """Why the VF is in use, or None.

    vfio-pci enables the device only while a VFIO file is open. A host driver always enables it, so there the netdev
    decides. `nic`: the PF is a NIC, so a VF bound to a host driver must have a netdev.
    """
    if vf.driver == VFIO_DRIVER:
        return _held(vf, "its VFIO group is held open") if vf.enabled or vf.user else None
    if vf.driver is None:
        return _held(vf, "it is being unbound from its driver") if vf.enabled else None
    if nic and not vf.netdevs:
        return f"its driver {vf.driver} shows no netdev here: it is in another network namespace, or still probing"
    return next((why for netdev in vf.netdevs if (why := _netdev_in_use(netdev))), None)


def _held(vf: Vf, why: str) -> str:
    return f"{why} by {vf.user}" if vf.user else why


def _netdev_in_use(netdev: Netdev) -> str | None:
    if netdev.master:
        return f"its netdev {netdev.name} is a port of {netdev.master}"
    if netdev.addressed:
        return f"its netdev {netdev.name} has an address"
    return f"its netdev {netdev.name} is up" if netdev.admin_up else None


def pf_in_use(pf: Pf) -> tuple[str, ...]:
    """Each VF of the PF that is in use: `vf3: its VFIO group is held open`."""
    reasons = ((vf, vf_in_use(vf, nic=pf.is_nic)) for vf in pf.vfs)
    return tuple(f"vf{vf.index}: {why}" for vf, why in reasons if why)
