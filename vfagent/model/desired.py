# SPDX-License-Identifier: Apache-2.0
"""What the policy wants of one PF, with every count and pattern resolved."""

from dataclasses import dataclass

from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import VfSettings

HOST_DRIVER = "host"
"""Policy's word for the kernel's own VF driver, whichever that is."""

NO_DRIVER = "none"


@dataclass(frozen=True)
class DesiredVf:
    index: int
    driver: str  # a driver's name, HOST_DRIVER or NO_DRIVER
    settings: VfSettings


@dataclass(frozen=True)
class DesiredPf:
    """`numvfs` None: the rule says nothing of the count. `problem`: the rule cannot be met on this PF."""

    address: PciAddress
    rule: str
    numvfs: int | None
    mtu: int | None
    vfs: tuple[DesiredVf, ...]
    allow_management: bool = False
    problem: str | None = None
    not_yet: tuple[str, ...] = ()  # keys whose effect this version does not have
