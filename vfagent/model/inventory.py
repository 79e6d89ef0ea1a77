# SPDX-License-Identifier: Apache-2.0
"""The observed state of a host: PFs and their VFs, as frozen values."""

from vfagent.frozen import frozen
from vfagent.model.autoconf import Ipv6Conf
from vfagent.model.evidence import Use
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
    ipv6: Ipv6Conf | None = None  # of a PF with a rule; None without IPv6
    altnames: tuple[str, ...] = ()
    port: str | None = None  # its phys_port_name, where the function has several netdevs
    configured_by: str | None = None  # the program that is to configure its addresses
    advertised: bool = False  # it has nothing but what a router advertised, and no program is to configure it

    @property
    def is_ipoib(self) -> bool:
        """Its address has 20 bytes (INFINIBAND_ALEN), as no other kind's has: flags, queue pair, and the port's GID."""
        return self.mac.count(":") == 19

    @property
    def lasting_mac(self) -> str | None:
        """The permanent MAC. Of an IPoIB address the port's GUID: the queue pair may be another after each boot."""
        return (self.permanent_mac or self.mac)[-23:] if self.is_ipoib else self.permanent_mac


@frozen(slots=True)
class Vf:
    """One VF. It is identified by (PF, index): its PCI address can change when it is created again."""

    index: int
    address: PciAddress
    driver: str | None = None
    driver_override: str | None = None
    enabled: bool = False  # the PCI device is enabled; on a VFIO driver: its VFIO device is open
    iommu_group: int | None = None
    group_blockers: tuple[
        PciAddress, ...
    ] = ()  # other devices of its IOMMU group that have a driver other than a VFIO driver
    netdevs: tuple[Netdev, ...] = ()
    settings: VfSettings | None = None  # None: the PF's driver does not report them
    gone: bool = False  # the PF has the link virtfnN, and the device is not there
    user: str | None = None  # the guest it is assigned to, while that runs
    vfio_dev: bool = False  # its driver has registered it with VFIO, whatever the driver's name
    uses: tuple[Use, ...] = ()  # what is on it beside its netdevs, or holds what its driver made of it
    shown_idle: bool = False  # all that its driver makes of it was asked; without `uses` it is idle


@frozen
class SharedGroup:
    """The IOMMU group of a PF and of the port above it, which lacks ACS: its VFs will be in it (pci_device_group()).

    `users`: the devices in it that have a host driver, the PF among them, so that vfio gives no VF to a guest.
    """

    number: int
    port: PciAddress
    users: tuple[PciAddress, ...]


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
    ports: tuple[Netdev, ...] = ()  # its other netdevs, less the representors of VFs: vfagent/model/port_names.py
    vendor_name: str | None = None
    device_name: str | None = None
    path: str | None = None  # udev's ID_PATH
    numa_node: int | None = None
    eswitch: str | None = None
    hwmode: str | None = None
    initialized: bool = True  # udev has processed the PCI device, including its driver's module
    unobserved: str | None = None  # what could not be observed and why
    network: HostNetwork | None = None  # observed only if its rule or something vfagent made on it needs it
    shared_group: SharedGroup | None = None
    switch_users: tuple[str, ...] = ()  # in switchdev mode: netdevs of subfunctions, and of PFs that other hosts have
    assume_idle: bool = False  # its rule says so: a VF of which nothing shows whether it is used is idle
    netdev_away: bool = False  # in another network namespace
    netdev_pending: bool = False  # the driver may still make it, and the grace for that is not over

    @property
    def is_nic(self) -> bool:
        return self.pci_class.startswith("0x02")

    @property
    def is_infiniband(self) -> bool:
        """Its netdev is made by ib_ipoib, which need not be loaded. A VPI card's port may be an Ethernet one."""
        return self.netdev.is_ipoib if self.netdev else self.pci_class.startswith("0x0207")

    @property
    def netdevs(self) -> tuple[Netdev, ...]:
        return (self.netdev, *self.ports) if self.netdev else ()

    @property
    def name(self) -> str:
        """For messages: the address and, if there is one, the interface."""
        return f"{self.address} ({self.netdev.name})" if self.netdev else self.address


@frozen
class Inventory:
    """All PFs of a host, sorted by address."""

    pfs: tuple[Pf, ...]
