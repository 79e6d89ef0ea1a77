# SPDX-License-Identifier: Apache-2.0
"""What differs from driver to driver, as data. The sources are the kernel's drivers and their issue threads."""

from vfagent.frozen import frozen
from vfagent.model.vf_settings import Attribute


@frozen(slots=True)
class Quirks:
    """How a driver differs from what the kernel's interface promises."""

    # While its netdev is down the driver makes and removes no VFs, and says so (bnx2x: EINVAL) or not (bnxt_en: 0).
    up_before_vfs: bool = False
    # The driver hands a changed MAC to a VF only at the VF's next reset: set it before anything drives the VF.
    settings_before_bind: bool = False
    # The driver checks rates against the negotiated speed, and answers EINVAL while there is none.
    rate_needs_carrier: bool = False
    # The driver has minimum rates: EINVAL is about the value. From others it means that they have none (sriov-cni#107).
    min_tx_rate: bool = False
    # A change of these resets the VF, or cuts it off, under whoever uses it.
    disturbing: frozenset[Attribute] = frozenset({Attribute.MAC, Attribute.VLAN, Attribute.TRUST, Attribute.LINK_STATE})
    # Changing the PF's MTU reinitialises the port, VFs included.
    mtu_resets_vfs: bool = True
    # The driver has an eswitch behind devlink, or ndo_bridge_setlink: others need not be asked at every look.
    eswitch: bool = False
    hwmode: bool = False
    # The eswitch's mode is changed with the VFs there, and without a driver; elsewhere with no VFs.
    eswitch_with_vfs: bool = False
    # How many entries of its own table the card serves, where it drops the rest without a word.
    most_fdb: int | None = None


_QUIRKS = {
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
    # The eswitch holds port settings: trust reaches a VF without a reset, and the MTU is the port's own.
    "mlx5_core": Quirks(
        disturbing=frozenset({Attribute.MAC, Attribute.VLAN, Attribute.LINK_STATE}),
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
    "nfp": Quirks(eswitch=True),
}
_DEFAULT = Quirks()


def quirks_of(driver: str | None) -> Quirks:
    return _QUIRKS.get(driver or "", _DEFAULT)
