# SPDX-License-Identifier: Apache-2.0
"""What differs from driver to driver, as data. The sources are the kernel's drivers and their issue threads."""

import re
from dataclasses import dataclass

from vfagent.model.vf_settings import Attribute


@dataclass(frozen=True, slots=True)
class Quirks:
    # The driver answers sriov_numvfs with an error while its netdev is down.
    up_before_vfs: bool = False
    # The driver hands a changed MAC to a VF only at the VF's next reset: set it before anything drives the VF.
    settings_before_bind: bool = False
    # The driver checks rates against the negotiated speed, and answers EINVAL while there is none.
    rate_needs_carrier: bool = False
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
    "ice": Quirks(settings_before_bind=True, eswitch=True, hwmode=True),  # ice_set_vf_mac resets the VF
    # The eswitch holds port settings: trust reaches a VF without a reset, and the MTU is the port's own.
    "mlx5_core": Quirks(
        disturbing=frozenset({Attribute.MAC, Attribute.VLAN, Attribute.LINK_STATE}),
        mtu_resets_vfs=False,
        eswitch=True,
        hwmode=True,
        eswitch_with_vfs=True,
        most_fdb=128,  # ConnectX-4 Lx
    ),
    "bnxt_en": Quirks(
        up_before_vfs=True, eswitch=True, hwmode=True
    ),  # bnxt_sriov_configure: "Reject SRIOV config request since if is down"
    "be2net": Quirks(hwmode=True),
    "nfp": Quirks(eswitch=True),
}
_DEFAULT = Quirks()


def quirks_of(driver: str | None) -> Quirks:
    return _QUIRKS.get(driver or "", _DEFAULT)


# "net/mlx5: Fix bridge mode operations when there are no VFs" (b1d305abef46) came to stable kernels in September 2024;
# these patch levels are later than that for certain.
_MLX5_MENDED = {(6, 1): 112, (6, 6): 54, (6, 10): 13}
_MLX5_MENDED_FROM = (6, 11)


def hwmode_danger(driver: str | None, kernel: str) -> str | None:
    """Why this kernel must not be asked for another hwmode. `kernel`: its version with the patch level, `6.1.119`."""
    if driver != "mlx5_core":
        return None
    series, patch = _version(kernel)
    if series >= _MLX5_MENDED_FROM or patch >= _MLX5_MENDED.get(series, 1 << 30):
        return None
    return f"mlx5_core of kernel {kernel} may crash the host when its hwmode is set (mended in 6.11, 6.6.54, 6.1.112)"


def _version(kernel: str) -> tuple[tuple[int, int], int]:
    numbers = [int(part) for part in re.findall(r"\d+", kernel)[:3]]
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return (major, minor), patch
