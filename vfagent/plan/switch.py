# SPDX-License-Identifier: Apache-2.0
"""The card's embedded switch: hwmode, eswitch mode and representors. Pure."""

from collections.abc import Iterator

from vfagent.model.desired import DesiredPf
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Pf
from vfagent.model.network import HostNetwork, Link, Representor
from vfagent.model.vf_settings import Attribute
from vfagent.plan.autoconf import plan_autoconf
from vfagent.plan.network_steps import LinkChange, SetEswitch, SetHwmode, SetRepresentor
from vfagent.plan.ports import foreign_owner, no_bridge, stays
from vfagent.plan.quirks import Quirks
from vfagent.plan.steps import SetNumvfs, Step, UnbindDriver
from vfagent.plan.vf import Deferred, ParallelGroup, Planned, Problem


def wanted_eswitch(desired: DesiredPf, pf: Pf, driver_state: DriverState) -> str | None:
    """The mode to change to; None where it is set already, not in the policy, or not supported."""
    if (
        desired.eswitch is None
        or pf.eswitch in (None, desired.eswitch)
        or Attribute.ESWITCH in driver_state.unsupported
    ):
        return None
    return desired.eswitch


def eswitch_problems(desired: DesiredPf, pf: Pf, driver_state: DriverState) -> Iterator[Problem]:
    """In another mode the VFs are in another network: in legacy mode no bridge port has a VF's VLAN."""
    answer = driver_state.unsupported.get(Attribute.ESWITCH)
    if desired.eswitch and desired.eswitch != pf.eswitch and answer and pf.eswitch:
        yield Problem(f"eswitch {desired.eswitch} does not hold (found {pf.eswitch}): {pf.driver} refuses it: {answer}")
    elif desired.eswitch == "switchdev" and pf.eswitch is None and pf.is_nic:
        yield Problem(f"eswitch {desired.eswitch} is not supported by {pf.driver}")


def count_steps_with_mode(wanted: int, pf: Pf, mode: str | None, quirks: Quirks) -> list[Step]:
    """From the present VFs to the wanted ones, with the eswitch mode changed where the driver can do it.

    mlx5 creates VFs in legacy mode, and changes the mode while they exist and are unbound; others change it without
    VFs (sriov-network-operator: sriov.go). Legacy mode ends subfunctions, and cuts off the PF that another host has of
    a DPU: beside those, VFs are made in the present mode (mlx5_eswitch_enable() loads their ports only).
    """
    steps: list[Step] = [SetNumvfs(pf.address, 0)] if pf.vfs else []  # iov.c returns EBUSY for N -> M
    through_legacy = quirks.eswitch_with_vfs and not pf.switch_users
    goal = mode or (pf.eswitch if through_legacy else None)
    if through_legacy and wanted and pf.eswitch == "switchdev":
        steps.append(SetEswitch(pf.address, "legacy"))
    elif mode and not (quirks.eswitch_with_vfs and wanted):
        steps.append(SetEswitch(pf.address, mode))
    if wanted:
        steps.append(SetNumvfs(pf.address, wanted))
    if wanted and quirks.eswitch_with_vfs and goal == "switchdev":
        steps.append(SetEswitch(pf.address, goal))
    return steps


def mode_change_in_place(pf: Pf, mode: str, blocker: str | None) -> tuple[Planned | Deferred, ...]:
    """While the VFs exist: they are unbound for the change, and bound again in the next round."""
    reason = f"found {pf.eswitch}"
    if blocker:
        return (Deferred(SetEswitch(pf.address, mode), reason, blocker),)
    bound = (vf for vf in pf.vfs if vf.driver)
    unbound = (Planned(UnbindDriver(pf.address, vf.index, vf.address), "eswitch mode change") for vf in bound)
    return (*unbound, Planned(SetEswitch(pf.address, mode), reason))


def plan_hwmode(
    desired: DesiredPf, pf: Pf, driver_state: DriverState, blocker: str | None
) -> Planned | Deferred | None:
    """Only with VFs: drivers refuse it without, or worse. i40e resets its port for it (i40e_ndo_bridge_setlink)."""
    if desired.hwmode is None or not pf.vfs or pf.netdev is None or Attribute.HWMODE in driver_state.unsupported:
        return None
    present = pf.hwmode or driver_state.hwmode
    if present == desired.hwmode:
        return None
    step, reason = SetHwmode(pf.address, pf.netdev.ifindex, desired.hwmode), f"found {present or 'not reported'}"
    return Deferred(step, reason, blocker) if blocker else Planned(step, reason)


def plan_representors(desired: DesiredPf, pf: Pf) -> tuple[ParallelGroup, tuple[Problem, ...]]:
    """Up, so that their VFs have traffic at all, and in the bridge that the policy names, unless they are elsewhere."""
    bridges = {vf.index: vf.bridge for vf in desired.vfs}
    network = pf.network or HostNetwork()
    items = [
        item
        for representor in network.representors
        if representor.index in bridges
        for item in _representor(representor, bridges[representor.index], pf, network)
    ]
    steps = tuple(item for item in items if isinstance(item, Planned))
    return steps, tuple(item for item in items if isinstance(item, Problem))


def _representor(
    representor: Representor, bridge: str | None, pf: Pf, network: HostNetwork
) -> Iterator[Planned | Problem]:
    name, master, target = representor.name, representor.master, network.named(bridge)
    joins = bridge if bridge and master != bridge else None
    owner = foreign_owner(name, network.named(master) or (Link(master, 0) if master else None), network.joined)
    if target is not None and target.kind != "bridge":
        yield Problem(no_bridge(target), representor.index)
        joins = None
    elif joins and owner:
        yield Problem(f"{stays(name, owner)}; it is to be a port of {bridge}", representor.index)
        joins = None
    yield from plan_autoconf(pf.address, name, representor.ifindex, representor.ipv6)
    change = LinkChange(up=None if representor.admin_up else True, bridge=joins)
    if change != LinkChange():
        reason = f"found {'up' if representor.admin_up else 'down'}, {f'master {master}' if master else 'no master'}"
        step = SetRepresentor(pf.address, representor.index, name, representor.ifindex, change, master)
        yield Planned(step, reason)
