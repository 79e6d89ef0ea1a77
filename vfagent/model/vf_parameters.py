# SPDX-License-Identifier: Apache-2.0
"""Drivers whose VFs depend on how they were loaded, and what to set. Pure."""

from vfagent.frozen import frozen
from vfagent.model.pci import PciAddress


@frozen
class MadeAtLoad:
    """The driver has no sriov_configure(): sriov_numvfs answers ENOENT, and VFs are made when it takes the card.
    efx_siena_sriov_configure() answers 0, and makes none.

    `parameter` of its `module` is their number; without one `source` says whose they are.
    """

    module: str
    parameter: str | None = None
    source: str = ""

    def options(self, count: int) -> str:
        """The line of modprobe.d(5)."""
        return f"options {self.module} {self.parameter}={count}"


MADE_AT_LOAD = {
    "mlx4_core": MadeAtLoad("mlx4_core", "num_vfs"),  # __mlx4_init_one()
    "sfc_siena": MadeAtLoad("sfc-siena", "max_vfs"),  # efx_siena_sriov_probe()
    "lpfc": MadeAtLoad("lpfc", "lpfc_sriov_nr_virtfn"),  # lpfc_sli_probe_sriov_nr_virtfn()
    "thunder-cpt": MadeAtLoad("cptpf", "num_vfs"),  # cpt_sriov_init()
    "enic": MadeAtLoad("enic", source="its service profile in UCS gives it"),  # enic_probe(): TotalVFs
    "nicpf": MadeAtLoad("nicpf", source="its ports need"),  # nic_sriov_init()
    "rvu_af": MadeAtLoad("rvu_af", source="its blocks need"),  # rvu_enable_sriov()
    "cavium_rng_pf": MadeAtLoad("cavium_rng", source="it has, which is one"),  # cavium_rng_probe()
    "snet-vdpa-driver": MadeAtLoad("snet_vdpa", source="the card's own configuration says"),  # snet_vdpa_probe_pf()
}

# What lets the driver make VFs at all: without it, it lowers sriov_totalvfs to 0 by pci_sriov_set_totalvfs().
ALLOWED_BY = {
    "i915": "i915.enable_guc=3 i915.max_vfs=N",  # of a build with SR-IOV: i915_sriov_probe()
    "xe": "xe.max_vfs=N",  # xe_sriov_pf_readiness(): 0 unless built for debugging
}

# The functions of a card that have its VFs, where its netdevs are another function's: cxgb4_iov_configure().
VFS_OF = {"cxgb4": "0-3"}


def vfs_of(address: PciAddress, driver: str | None) -> str:
    """Of a function that has no VFs: which functions of its card have them, where its driver says so; else nothing."""
    if (functions := VFS_OF.get(driver or "")) is None:
        return ""
    card = address.rpartition(".")[0]
    return f'{driver} makes VFs on functions {functions} of its cards: match pci = "{card}.[{functions}]"'
