# SPDX-License-Identifier: Apache-2.0
"""Several netdevs of one PCI function, told apart by phys_port_name and dev_port. Pure.

mlx4, nfp, cxgb4 (PF4) and IPoIB make a netdev for each port of the card, all on one function. In switchdev mode the
representors are there too: of VFs, of subfunctions, and on a DPU of the PF that the other host has (`pf0hpf`).
"""

import re

# devlink's names, __devlink_port_phys_port_name_get(): p0, p0s1 where a port is split; pf0, c1pf0; pf0vf1; pf0sf88.
_PHYSICAL = re.compile(r"p\d+(?:s\d+)?")
_OTHER_PF = re.compile(r"(?:c\d+)?pf\d+")
_REPRESENTOR = re.compile(r"pf\d+(?:vf|sf)\d+$")
_SUBFUNCTION = re.compile(r"pf\d+sf\d+$")


def is_representor(port_name: str | None) -> bool:
    """Whether a netdev stands for a VF or a subfunction, which is not the PF's own."""
    return _REPRESENTOR.search(port_name or "") is not None


def is_subfunction(port_name: str | None) -> bool:
    return _SUBFUNCTION.search(port_name or "") is not None


def is_other_pf(port_name: str | None) -> bool:
    """Whether a netdev stands for a PF: on a DPU that of another host, on an nfp the function's own."""
    return _OTHER_PF.fullmatch(port_name or "") is not None


def has_vfs(port_name: str | None) -> bool:
    """Whether a netdev can be the one that has the settings of the VFs; that of another host's PF has none."""
    return not (is_representor(port_name) or is_other_pf(port_name))


def order(port_name: str | None, dev_port: int, ifindex: int) -> tuple[int, int, int]:
    """The first netdev by this order is the PF's: a physical port, then one without a name, then the others."""
    if _PHYSICAL.fullmatch(port_name or ""):
        return 0, dev_port, ifindex
    return (1 if has_vfs(port_name) else 2), dev_port, ifindex
