# SPDX-License-Identifier: Apache-2.0
"""Differences between PF drivers, as facts of the kernel's sources: independent of the planner's quirks."""

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from vfagent.errors import ENOTSUPP
from vfagent.model.vf_settings import ISOLATING, Attribute, VfSettings

_GUIDS = frozenset({Attribute.NODE_GUID, Attribute.PORT_GUID})
_RESETTING = frozenset({Attribute.MAC, Attribute.VLAN, Attribute.TRUST, Attribute.LINK_STATE})
_ALL = frozenset(Attribute)
VF_ATTRIBUTES = tuple(Attribute(name) for name in VfSettings.__dataclass_fields__)


class Netdev(StrEnum):
    """When a PF's driver makes its netdev."""

    AT_PROBE = "at probe"
    LATER = "later"  # `kernel.make_netdev`
    WITH_VFS = "with VFs"  # cxgb4_iov_configure


@dataclass(frozen=True, slots=True, repr=False)
class PfDriver:
    name: str
    vf_driver: str
    refuses: Mapping[Attribute, int] = field(default_factory=dict)  # attribute -> errno
    refuses_for_a_while: frozenset[Attribute] = frozenset()  # from the driver's start on, with EOPNOTSUPP
    loses: frozenset[Attribute] = frozenset()  # accepted, and not kept
    unreported: frozenset[Attribute] = frozenset()  # accepted, but not reported by ndo_get_vf_config
    reports: bool = True  # the driver has ndo_get_vf_config
    vfs_need_up: bool = False  # while the netdev is down, VFs are neither created nor removed
    down_errno: int = 0  # what a write to sriov_numvfs returns then
    most_vfs: int | None = None  # creates that many, and returns success, when asked for more
    all_or_none: bool = False  # creates totalvfs, whatever it is asked for, and returns success
    settings_need_up: int = 0  # what a setting of a VF returns while the netdev is down
    rate_needs_carrier: bool = False
    takes_no_mac: bool = True  # a MAC of zeros, which takes the VF's own away
    resets_vf_on: frozenset[Attribute] = _RESETTING
    mtu_resets_vfs: bool = True
    is_nic: bool = True
    infiniband: bool = False
    makes_disks: bool = False  # its VFs' host driver makes a block device
    silent_use: bool = False  # nothing shows whether the host uses a VF
    netdev: Netdev = Netdev.AT_PROBE
    virtio: bool = False  # netdevs are below virtioN
    hwmode: str | None = None  # the initial mode; None: not supported
    fdb: int | None = None  # the size of its FDB

    def __post_init__(self) -> None:
        object.__setattr__(self, "refuses", {**dict.fromkeys(self.absent, errno.EOPNOTSUPP), **self.refuses})

    @property
    def absent(self) -> frozenset[Attribute]:
        """What its link layer does not have: no ndo_set_vf_* in ipoib_netdev_ops_pf, or in handle_vf_guid()."""
        return frozenset(VF_ATTRIBUTES) - _GUIDS - {Attribute.LINK_STATE} if self.infiniband else _GUIDS

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
# mlx5_ib; its VFs read their GUIDs when they are probed
MLX5_IB = PfDriver(
    "mlx5_core", "mlx5_core", infiniband=True, resets_vf_on=_GUIDS | {Attribute.LINK_STATE}, mtu_resets_vfs=False
)
BNXT = PfDriver("bnxt_en", "bnxt_en", refuses={Attribute.VLAN_PROTOCOL: errno.EPROTONOSUPPORT}, vfs_need_up=True)
I40E = PfDriver("i40e", "iavf", hwmode="veb", fdb=3)
SILENT = PfDriver("silent", "silentvf", unreported=frozenset({Attribute.TRUST, Attribute.SPOOF_CHECK}))
# bnx2x_set_vf_mac: is_valid_ether_addr
BNX2X = PfDriver("bnx2x", "bnx2x", vfs_need_up=True, down_errno=errno.EINVAL, takes_no_mac=False)
FEW = PfDriver("few", "fewvf", most_vfs=2)
NEEDS_UP = PfDriver("needs_up", "needs_upvf", settings_need_up=errno.EAGAIN)  # as otx2_set_vf_vlan; not in our quirks
ALL = PfDriver("all", "allvf", reports=False, is_nic=False, all_or_none=True, silent_use=True)
QAT = PfDriver("4xxx", "4xxxvf", reports=False, is_nic=False, all_or_none=True, silent_use=True)
VIRTIO = PfDriver(
    "virtio-pci",
    "virtio-pci",
    refuses=dict.fromkeys(_ALL, errno.EOPNOTSUPP),
    reports=False,
    virtio=True,
)
REFUSING = PfDriver(
    "refusing",
    "refusingvf",
    refuses={Attribute.VLAN: errno.EOPNOTSUPP, Attribute.SPOOF_CHECK: ENOTSUPP, Attribute.TRUST: errno.EOPNOTSUPP},
    unreported=frozenset({Attribute.TRUST}),
)
# ice_set_vf_port_vlan and others: in safe mode, until the driver is loaded with its package
STARTING = PfDriver("starting", "startingvf", refuses_for_a_while=ISOLATING)
LOSING = PfDriver("losing", "losingvf", loses=frozenset({Attribute.VLAN, Attribute.SPOOF_CHECK}))
# ice_set_vf_bw: while DCB is on
DCB = PfDriver("ice", "iavf", refuses={Attribute.MIN_TX_RATE: errno.EOPNOTSUPP}, rate_needs_carrier=True)
CXGB4 = PfDriver("cxgb4", "cxgb4vf", netdev=Netdev.WITH_VFS)
LATE = PfDriver("late", "latevf", netdev=Netdev.LATER)
NVME = PfDriver("nvme", "nvme", reports=False, is_nic=False, makes_disks=True)

DRIVERS = (IGB, MLX5, MLX5_IB, BNXT, BNX2X, I40E, SILENT, VIRTIO, REFUSING, DCB, NVME)
NIC_DRIVERS = tuple(driver for driver in DRIVERS if driver.is_nic and driver.reports)
