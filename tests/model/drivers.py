# SPDX-License-Identifier: Apache-2.0
"""What PF drivers do differently, as facts of the kernel's sources: written apart from what the planner believes."""

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field

from vfagent.model.vf_settings import Attribute

_RESETTING = frozenset({Attribute.MAC, Attribute.VLAN, Attribute.TRUST, Attribute.LINK_STATE})
_ALL = frozenset(Attribute)


@dataclass(frozen=True, slots=True, repr=False)
class PfDriver:
    name: str
    vf_driver: str
    refuses: Mapping[Attribute, int] = field(default_factory=dict)  # and with which errno
    unreported: frozenset[Attribute] = frozenset()  # taken, but ndo_get_vf_config leaves it out
    reports: bool = True  # it has ndo_get_vf_config
    vfs_need_up: bool = False  # while the netdev is down no VFs are made, and none removed
    down_errno: int = 0  # what sriov_numvfs answers then
    most_vfs: int | None = None  # as many does it make, without a word, where it is asked for more
    rate_needs_carrier: bool = False
    resets_vf_on: frozenset[Attribute] = _RESETTING
    mtu_resets_vfs: bool = True
    is_nic: bool = True
    virtio: bool = False  # netdevs hang below virtioN
    hwmode: str | None = None  # what it starts with; None: it has none
    fdb: int | None = None  # how many entries its table takes

    def __repr__(self) -> str:
        return self.name


IGB = PfDriver(
    "igb",
    "igbvf",
    refuses={
        Attribute.LINK_STATE: errno.EOPNOTSUPP,
        Attribute.MIN_TX_RATE: errno.EINVAL,
        Attribute.VLAN_PROTOCOL: errno.EPROTONOSUPPORT,
    },
    unreported=frozenset({Attribute.LINK_STATE}),
    rate_needs_carrier=True,
)
MLX5 = PfDriver(
    "mlx5_core",
    "mlx5_core",
    resets_vf_on=frozenset({Attribute.MAC, Attribute.VLAN, Attribute.LINK_STATE}),
    mtu_resets_vfs=False,
)
BNXT = PfDriver("bnxt_en", "bnxt_en", refuses={Attribute.VLAN_PROTOCOL: errno.EPROTONOSUPPORT}, vfs_need_up=True)
I40E = PfDriver("i40e", "iavf", hwmode="veb", fdb=3)
SILENT = PfDriver("silent", "silentvf", unreported=frozenset({Attribute.TRUST, Attribute.SPOOF_CHECK}))
BNX2X = PfDriver("bnx2x", "bnx2x", vfs_need_up=True, down_errno=errno.EINVAL)
FEW = PfDriver("few", "fewvf", most_vfs=2)
VIRTIO = PfDriver(
    "virtio-pci",
    "virtio-pci",
    refuses=dict.fromkeys(_ALL, errno.EOPNOTSUPP),
    reports=False,
    virtio=True,
)
NVME = PfDriver("nvme", "nvme", reports=False, is_nic=False)

DRIVERS = (IGB, MLX5, BNXT, BNX2X, I40E, SILENT, VIRTIO, NVME)
NIC_DRIVERS = tuple(driver for driver in DRIVERS if driver.is_nic and driver.reports)
