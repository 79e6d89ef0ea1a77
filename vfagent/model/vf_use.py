# SPDX-License-Identifier: Apache-2.0
"""Who uses a VF, from what was observed of it. The plan and the check right before a step ask the same function."""

from vfagent.model.evidence import Evidence, Use, is_vfio
from vfagent.model.inventory import Netdev, Pf, Vf


def vf_in_use(vf: Vf, pf: Pf) -> str | None:
    """Why the VF is in use, for messages; None where it is idle, or may be assumed to be."""
    use = vf_use(vf, nic=pf.is_nic, assume_idle=pf.assume_idle)
    return use.text if use else None


def pf_in_use(pf: Pf) -> tuple[str, ...]:
    """Each VF of the PF that is in use: `vf3: a process has it open through vfio-pci`."""
    reasons = ((vf, vf_in_use(vf, pf)) for vf in pf.vfs)
    return tuple(f"vf{vf.index}: {why}" for vf, why in reasons if why)


def vf_use(vf: Vf, *, nic: bool, assume_idle: bool = False) -> Use | None:
    """The first evidence that the VF is in use. What cannot be known counts as in use, unless `assume_idle`.

    A VFIO driver enables the device only while a process has it open. A host driver always enables it, so there the
    devices that the driver makes of it decide. `nic`: the PF is a NIC, so a host driver makes a netdev.
    """
    if is_vfio(vf.driver, vfio_dev=vf.vfio_dev):
        return _open(vf) or _guest(vf)
    if vf.driver is None:
        return Use(Evidence.UNBINDING, _by("it is being unbound from its driver", vf)) if vf.enabled else _guest(vf)
    shown = _guest(vf) or next(iter(vf.uses), None) or next(filter(None, map(_netdev, vf.netdevs)), None)
    if shown or vf.netdevs or vf.shown_idle or assume_idle:
        return shown
    return Use(Evidence.UNKNOWN, _unknown(vf.driver, nic=nic))


def _open(vf: Vf) -> Use | None:
    return Use(Evidence.VFIO, f"{vf.user or 'a process'} has it open through {vf.driver}") if vf.enabled else None


def _guest(vf: Vf) -> Use | None:
    return Use(Evidence.GUEST, f"it is assigned to {vf.user}") if vf.user else None


def _by(why: str, vf: Vf) -> str:
    return f"{why}, held by {vf.user}" if vf.user else why


def _netdev(netdev: Netdev) -> Use | None:
    if netdev.master:
        return Use(Evidence.NETDEV, f"its netdev {netdev.name} is a port of {netdev.master}")
    if netdev.addressed:
        return Use(Evidence.NETDEV, f"its netdev {netdev.name} has an address")
    return Use(Evidence.NETDEV, f"its netdev {netdev.name} is up") if netdev.admin_up else None


def _unknown(driver: str, *, nic: bool) -> str:
    what = f"its driver {driver} has made no netdev here" if nic else f"it is on the host's driver {driver}"
    return f"{what}, and nothing shows whether it is used (assume_idle = true permits it)"
