# SPDX-License-Identifier: Apache-2.0
"""VFs whose host driver reads a new address only when it is bound. Pure."""

from collections.abc import Collection

from vfagent.model.desired import HOST_DRIVER, KEEP_DRIVER, DesiredVf
from vfagent.model.evidence import serves_host
from vfagent.model.inventory import Pf, Vf
from vfagent.model.vf_settings import GUIDS, VfSettings
from vfagent.model.vf_use import vf_in_use
from vfagent.plan.steps import ConfigureVf, UnbindDriver, names
from vfagent.plan.vf import ParallelGroup, Planned


def unbound_to_read(
    pf: Pf, pairs: list[tuple[Vf, DesiredVf]], settings: ParallelGroup, kept: Collection[int]
) -> ParallelGroup:
    """They are unbound before it is set, and bound again in the next round: so it counts after a kill, too.

    mlx5 passes a new MAC to no bound driver (sriov-cni), and mlx5_ib asks for its GUIDs when it is bound.
    `kept`: VFs that get no other driver, as they lack isolation. Their MAC was set for that driver, and the one that
    they have has not read it.
    """
    new = {item.step.index: item.step.settings for item in settings if isinstance(item.step, ConfigureVf)}
    hosts = (vf for vf, wanted in pairs if wanted.driver in (HOST_DRIVER, KEEP_DRIVER, vf.driver))
    stale = [(vf, what) for vf in hosts if (what := _unread(vf, new.get(vf.index, VfSettings())))]
    stale += [(vf, "MAC") for vf, wanted in pairs if vf.index in kept and _has_another_mac(pf, vf, wanted)]
    return tuple(
        Planned(UnbindDriver(pf.address, vf.index, vf.address), f"its driver reads the new {what} when it is bound")
        for vf, what in stale
    )


def _has_another_mac(pf: Pf, vf: Vf, wanted: DesiredVf) -> bool:
    """Whether an idle VF's netdev has not the MAC that the rule gives to another driver."""
    if not vf.netdevs or wanted.driver in (HOST_DRIVER, KEEP_DRIVER, vf.driver) or vf_in_use(vf, pf):
        return False
    return wanted.settings.mac not in (None, vf.netdevs[0].mac)


def _unread(vf: Vf, new: VfSettings) -> str | None:
    if vf.netdevs and new.mac not in (None, vf.netdevs[0].mac):
        return "MAC"
    guids = any(name in GUIDS for name in names(new)) and serves_host(vf.driver, vfio_dev=vf.vfio_dev)
    return "GUID" if guids else None
