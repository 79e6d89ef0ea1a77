# SPDX-License-Identifier: Apache-2.0
"""What shows that a VF is in use, and which drivers are VFIO's."""

from enum import StrEnum

from vfagent.frozen import frozen

VFIO_DRIVER = "vfio-pci"

# They let a process drive the device; they make nothing of it that the host itself could use.
UIO_DRIVERS = frozenset({"igb_uio", "uio_pci_generic"})
IDLE_DRIVERS = frozenset({"pci-stub"})  # it binds a device so that no other driver does
# They make nothing of a VF but vDPA devices: without one, nothing can use it.
VDPA_DRIVERS = frozenset({"vp-vdpa", "ifcvf", "octep_vdpa", "alibaba-eni-vdpa", "snet-vdpa-driver"})


class Evidence(StrEnum):
    """The kinds of evidence, in the words of docs/promises.md."""

    VFIO = "a process has it open through a VFIO driver"
    GUEST = "it is assigned to a guest whose unit runs"
    UNBINDING = "it is being unbound"
    NETDEV = "its netdev is up, has an address, or is a port of something"
    AWAY = "its netdev or RDMA device is in another network namespace"
    VDPA = "a vDPA device is on it"
    MEDIATED = "a mediated device is on it"
    RDMA = "a process or a service of the kernel uses its RDMA device"
    UIO = "a process may have it open through a UIO driver"
    BLOCK = "its block device is mounted, is swap, or is below LVM, MD, dm-crypt or bcache"
    UNKNOWN = "nothing shows whether it is used"


@frozen
class Use:
    """One piece of evidence. `text` is for messages: `its file system is mounted at /srv`."""

    evidence: Evidence
    text: str


def is_vfio(driver: str | None, *, vfio_dev: bool = False) -> bool:
    """Whether a process, such as QEMU, opens the devices of this driver through VFIO.

    `vfio_dev`: the device has a folder vfio-dev, as under every VFIO driver since Linux 6.1 (3c28a76124b2). The
    kernel's drivers (drivers/vfio/pci) are all named so: vfio-pci, mlx5_vfio_pci, qat_vfio_pci, hisi_acc_vfio_pci.
    """
    return vfio_dev or (driver or "").replace("_", "-").endswith(VFIO_DRIVER)


def serves_host(driver: str | None, *, vfio_dev: bool = False) -> bool:
    """Whether the driver makes something of the device that the host itself can use."""
    return driver is not None and not (
        is_vfio(driver, vfio_dev=vfio_dev) or driver in UIO_DRIVERS or driver in IDLE_DRIVERS
    )
