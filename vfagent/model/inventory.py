# SPDX-License-Identifier: Apache-2.0
"""What was observed of the host: PFs and their VFs, as frozen values."""

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
    management: str | None = None  # why cutting it could cut off whoever administers the host


@frozen
class Vf:
    """One VF. It is known by (PF, index): its address may differ after each creation."""

    index: int
    address: PciAddress
    driver: str | None = None
    driver_override: str | None = None
    enabled: bool = False  # the PCI device is enabled; under vfio-pci that means: somebody holds it open
    iommu_group: int | None = None
    group_blockers: tuple[PciAddress, ...] = ()  # others of its IOMMU group that are neither free nor on vfio-pci
    netdevs: tuple[Netdev, ...] = ()
    settings: VfSettings | None = None  # None: the PF's driver reports nothing of it
    user: str | None = None  # the guest it was given to, while that runs


@frozen
class Pf:
    """A PCI function that can have VFs. `netdev` is None for one that is no NIC, or is not probed yet."""

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
    initialized: bool = True  # udev has handled the PCI device, its driver's module included
    unobserved: str | None = None  # what could not be observed, and why
    network: HostNetwork | None = None  # where its rule, or what vfagent made on it, asks for a look at it

    @property
    def is_nic(self) -> bool:
        return self.pci_class.startswith("0x02")

    @property
    def name(self) -> str:
        """For people: the address and, where there is one, the interface."""
        return f"{self.address} ({self.netdev.name})" if self.netdev else self.address


@frozen
class Inventory:
    """Every PF of a host, in the order of their addresses."""

    pfs: tuple[Pf, ...]


VFIO_DRIVER = "vfio-pci"


def vf_in_use(vf: Vf, *, nic: bool) -> str | None:
    """Why taking this VF away would disturb somebody, or None.

    vfio-pci enables the device while a VFIO file is open, and only then. A host driver enables it always,
    so there the netdev tells. `nic`: the PF is a NIC, so a bound host driver ought to show a netdev.
    """
    if vf.driver == VFIO_DRIVER:
        return _held(vf, "its VFIO group is held open") if vf.enabled or vf.user else None
    if vf.driver is None:
        return _held(vf, "it is being taken from whoever holds it") if vf.enabled else None
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
    """Each VF of the PF that somebody uses: `vf3: its VFIO group is held open`."""
    reasons = ((vf, vf_in_use(vf, nic=pf.is_nic)) for vf in pf.vfs)
    return tuple(f"vf{vf.index}: {why}" for vf, why in reasons if why)
