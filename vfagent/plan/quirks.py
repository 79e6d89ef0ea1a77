# SPDX-License-Identifier: Apache-2.0
"""Differences between PF drivers, as data. docs/drivers.md has what else the drivers' sources say."""

from vfagent.frozen import frozen
from vfagent.model.vf_settings import DISTURBING, Attribute


@frozen(slots=True)
class Quirks:
    """How a driver differs from what the kernel documents."""

    # While its netdev is down the driver creates and removes no VFs; it returns EINVAL (bnx2x) or 0 (bnxt_en).
    up_before_vfs: bool = False
    # A VF reads a changed MAC only at its next reset, or the driver refuses settings while its port is down: the port
    # comes up, then each VF is configured and bound, one after the other.
    settings_before_bind: bool = False
    # The driver checks rates against the link speed, and returns EINVAL while the link is down.
    rate_needs_carrier: bool = False
    # The driver supports minimum rates: EINVAL is about the value. Others return it for any value (sriov-cni#107).
    min_tx_rate: bool = False
    # A change of these resets a VF in use, or cuts its traffic.
    disturbing: frozenset[Attribute] = DISTURBING
    # A change of the PF's MTU reinitialises the port with its VFs.
    mtu_resets_vfs: bool = True
    # The driver has a devlink eswitch, or ndo_bridge_setlink (hwmode): other drivers are not asked at each observation.
    eswitch: bool = False
    hwmode: bool = False
    # The eswitch mode is changed while VFs exist and are unbound; with other drivers, while there are no VFs.
    eswitch_with_vfs: bool = False
    # The driver makes all VFs of its card or none, whatever number is written.
    all_or_none: bool = False
    # The only numbers of VFs that the driver makes; others are EINVAL.
    counts: tuple[int, ...] = ()
    # The PF has no netdev, or has one only while it has VFs: none is waited for.
    no_netdev: bool = False
    netdev_with_vfs: bool = False
    # How many FDB entries the card serves, where it silently ignores the rest.
    most_fdb: int | None = None


QUIRKS = {
    "igb": Quirks(rate_needs_carrier=True),  # igb_ndo_set_vf_bw
    "ixgbe": Quirks(rate_needs_carrier=True, hwmode=True),  # ixgbe_ndo_set_vf_bw
    "i40e": Quirks(settings_before_bind=True, hwmode=True),  # i40e_ndo_set_vf_mac: "Bring down and up the VF interface"
    "ice": Quirks(
        settings_before_bind=True,  # ice_set_vf_mac resets the VF
        rate_needs_carrier=True,  # ice_min_tx_rate_oversubscribed: the sum of the minima against the link's speed
        min_tx_rate=True,
        eswitch=True,
        hwmode=True,
    ),
    # The eswitch holds port settings: a change of trust does not reset the VF, and the MTU is the port's own.
    "mlx5_core": Quirks(
        disturbing=DISTURBING - {Attribute.TRUST},
        mtu_resets_vfs=False,
        min_tx_rate=True,
        eswitch=True,
        hwmode=True,
        eswitch_with_vfs=True,
        most_fdb=128,  # ConnectX-4 Lx
    ),
    # bnxt_sriov_configure: "Reject SRIOV config request since if is down", and 0
    "bnxt_en": Quirks(up_before_vfs=True, min_tx_rate=True, eswitch=True, hwmode=True),
    # bnx2x_sriov_configure: "VF num configuration via sysfs not supported while PF is down"
    "bnx2x": Quirks(up_before_vfs=True),
    "be2net": Quirks(hwmode=True),
    "CNN55XX": Quirks(counts=(16, 32, 64, 128)),  # num_vfs_valid: the modes that its queues can be divided by
    "nfp": Quirks(eswitch=True),
    "rvu_nicpf": Quirks(settings_before_bind=True),  # otx2_set_vf_mac, otx2_set_vf_vlan: EAGAIN while down
    "cxgb4": Quirks(netdev_with_vfs=True),  # cxgb4_iov_configure: PF 0 to 3; the ports' netdevs are PF 4's
    "nicpf": Quirks(no_netdev=True),  # nic_probe (ThunderX) registers none: its VFs are the ports
    "pci-pf-stub": Quirks(no_netdev=True),  # pci_pf_stub_probe
    # QAT, adf_sriov_configure: pci_enable_sriov(pdev, totalvfs)
    **dict.fromkeys(("dh895xcc", "c6xx", "c3xxx", "4xxx", "420xx", "6xxx"), Quirks(all_or_none=True)),
}
_DEFAULT = Quirks()


def quirks_of(driver: str | None) -> Quirks:
    return QUIRKS.get(driver or "", _DEFAULT)


def accepted_count(asked: int, driver: str | None, totalvfs: int) -> int | None:
    """Another number of VFs that the driver makes, where it does not make as many as are asked: more, if it can."""
    counts = [count for count in quirks_of(driver).counts if count <= totalvfs]
    if not counts or asked in counts:
        return None
    return min((count for count in counts if count > asked), default=max(counts))
