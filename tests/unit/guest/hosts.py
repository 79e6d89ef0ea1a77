# SPDX-License-Identifier: Apache-2.0
"""PFs as they are last observed, made by hand."""

from pathlib import Path

from vfagent.guests.spec.placement import ManagedPf, Placement, place
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Netdev, Pf, Vf
from vfagent.model.pci import PciAddress
from vfagent.plan.planner import plan_pf
from vfagent.policy.match import HostIdentity, desired_pf
from vfagent.policy.types import Policy
from vfagent.store.policy_files import load_files

IDENTITY = HostIdentity("node1", "0123456789abcdef0123456789abcdef")
PF = '[[pf]]\nname = "{name}"\nmatch = {{ pci = "{pci}" }}\nvfs = 4\n[[pf.vf]]\nindex = "*"\ndriver = "vfio-pci"\n'


def policy_of(folder: Path, text: str) -> Policy:
    file = folder / "policy.toml"
    file.write_text(text)
    return load_files([file])


def vf(bus: int, index: int, *, driver: str | None = "vfio-pci", held: bool = False) -> Vf:
    address = PciAddress(f"0000:{bus:02x}:10.{index}")
    return Vf(index, address, driver, "vfio-pci", enabled=held, iommu_group=10 * bus + index)


def pf(bus: int, vfs: tuple[Vf, ...] | None = None, *, numa_node: int | None = None) -> Pf:
    return Pf(
        address=PciAddress(f"0000:{bus:02x}:00.0"),
        driver="igb",
        vendor="0x8086",
        device="0x10c9",
        pci_class="0x020000",
        totalvfs=7,
        autoprobe=False,
        vfs=tuple(vf(bus, index) for index in range(4)) if vfs is None else vfs,
        netdev=Netdev(f"ens{bus}", bus, "52:54:00:00:00:01", None, 1500, admin_up=True),
        numa_node=numa_node,
    )


def managed(policy: Policy, *pfs: Pf, trouble: str | None = None) -> tuple[ManagedPf, ...]:
    pairs = ((observed, desired_pf(policy, observed, IDENTITY)) for observed in pfs)
    return tuple(
        ManagedPf(observed, desired, plan_pf(desired, observed, DriverState()), trouble)
        for observed, desired in pairs
        if desired
    )


def placed(policy: Policy, *pfs: Pf, held: dict[str, tuple[PciAddress, ...]] | None = None) -> dict[str, str]:
    """Each guest's VFs by PF's bus and index, or what it waits for."""
    placements = place(policy.guest, managed(policy, *pfs), held or {})
    return {placement.rule.name: placement.waits or " ".join(_short(placement)) for placement in placements}


def _short(placement: Placement) -> list[str]:
    return [f"{vf.pf[5:7]}/{vf.index}" for vf in placement.vfs]
