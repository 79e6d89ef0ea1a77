# SPDX-License-Identifier: Apache-2.0
"""A guest's VFs, the systemd unit it is to run as, and units as they are found."""

from vfagent.frozen import frozen
from vfagent.model.pci import PciAddress

UNIT_PREFIX = "vfagent-guest-"
UNIT_SUFFIX = ".service"
# The unit itself remembers what it was started for, so that every later agent knows it too.
ENV_VFS = "VFAGENT_VFS"
ENV_RULE = "VFAGENT_RULE"


@frozen(slots=True)
class GuestVf:
    """A VF that is given to a guest. `hardware` is its vendor and device: `8086:10ca`."""

    pf: PciAddress
    index: int
    address: PciAddress
    iommu_group: int | None
    numa_node: int | None = None
    hardware: str = ""

    def __str__(self) -> str:
        return f"{self.pf}/vf{self.index}"


@frozen(slots=True)
class Property:
    """A unit property by D-Bus' signature."""

    name: str
    signature: str
    value: object


@frozen(slots=True)
class UnitSpec:
    """What StartTransientUnit is given."""

    unit: str
    properties: tuple[Property, ...]


@frozen(slots=True)
class FoundUnit:
    """A guest's unit as systemd holds it."""

    guest: str
    active: str  # systemd's ActiveState
    sub: str
    result: str
    pid: int
    vfs: tuple[PciAddress, ...]
    rule: str  # digest of the rule it was started for
    restarts: int = 0  # by systemd itself, since the unit was made
    started_at: float | None = None  # its QEMU, in seconds since 1970

    @property
    def running(self) -> bool:
        """It has its VFs, or will have them again in a moment."""
        return self.active not in ("inactive", "failed")


def unit_name(guest: str) -> str:
    return f"{UNIT_PREFIX}{guest}{UNIT_SUFFIX}"


def guest_of_unit(unit: str) -> str:
    return unit.removeprefix(UNIT_PREFIX).removesuffix(UNIT_SUFFIX)
