# SPDX-License-Identifier: Apache-2.0
"""The card's own switch: hwmode, eswitch mode and representors. Pure."""

from collections.abc import Iterator

from vfagent.model.desired import DesiredPf
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Pf
from vfagent.model.network import Representor
from vfagent.model.vf_settings import Attribute
from vfagent.plan.quirks import Quirks
from vfagent.plan.steps import LinkChange, SetEswitch, SetHwmode, SetNumvfs, SetRepresentor, Step, UnbindDriver
from vfagent.plan.vf import Deferred, Planned


def wanted_eswitch(desired: DesiredPf, pf: Pf, driver_state: DriverState) -> str | None:
    """The mode to change to; None where it stands, is nobody's wish, or cannot be had."""
    if (
        desired.eswitch is None
        or pf.eswitch in (None, desired.eswitch)
        or Attribute.ESWITCH in driver_state.unsupported
    ):
        return None
    return desired.eswitch


def eswitch_notes(desired: DesiredPf, pf: Pf) -> Iterator[str]:
    if desired.eswitch == "switchdev" and pf.eswitch is None and pf.is_nic:
        yield f"eswitch is not supported by {pf.driver}"


def count_steps_with_mode(wanted: int, pf: Pf, mode: str | None, quirks: Quirks) -> list[Step]:
    """From the VFs that are there to the wanted ones, with the eswitch's mode changed where the driver can.

    mlx5 makes VFs in legacy mode and changes the mode with them there, and without a driver; others change it
    without VFs (sriov-network-operator: sriov.go).
    """
    steps: list[Step] = [SetNumvfs(pf.address, 0)] if pf.vfs else []  # iov.c answers EBUSY to N -> M
    goal = mode or (pf.eswitch if quirks.eswitch_with_vfs else None)
    if quirks.eswitch_with_vfs and wanted and pf.eswitch == "switchdev":
        steps.append(SetEswitch(pf.address, "legacy"))
    elif mode and not (quirks.eswitch_with_vfs and wanted):
        steps.append(SetEswitch(pf.address, mode))
    if wanted:
        steps.append(SetNumvfs(pf.address, wanted))
    if wanted and quirks.eswitch_with_vfs and goal == "switchdev":
        steps.append(SetEswitch(pf.address, goal))
    return steps


def mode_change_in_place(pf: Pf, mode: str, forbidden: str | None) -> tuple[Planned | Deferred, ...]:
    """With the VFs there: their drivers leave them for it; the next round brings those back."""
    reason = f"found {pf.eswitch}"
    if forbidden:
        return (Deferred(SetEswitch(pf.address, mode), reason, forbidden),)
    bound = (vf for vf in pf.vfs if vf.driver)
    free = (Planned(UnbindDriver(pf.address, vf.index, vf.address), "the eswitch's mode changes") for vf in bound)
    return (*free, Planned(SetEswitch(pf.address, mode), reason))


def plan_hwmode(
    desired: DesiredPf, pf: Pf, driver_state: DriverState, forbidden: str | None
) -> Planned | Deferred | None:
    """Only with VFs: without, drivers refuse it, or worse. i40e resets its port for it (i40e_ndo_bridge_setlink)."""
    if desired.hwmode is None or not pf.vfs or pf.netdev is None or Attribute.HWMODE in driver_state.unsupported:
        return None
    found = pf.hwmode or driver_state.hwmode
    if found == desired.hwmode:
        return None
    step, reason = SetHwmode(pf.address, pf.netdev.ifindex, desired.hwmode), f"found {found or 'not reported'}"
    return Deferred(step, reason, forbidden) if forbidden else Planned(step, reason)


def plan_representors(desired: DesiredPf, pf: Pf) -> tuple[Planned, ...]:
    """Up, so that their VFs can talk at all, and in the bridge that the policy names."""
    bridges = {vf.index: vf.bridge for vf in desired.vfs}
    found = pf.network.representors if pf.network else ()
    changes = ((one, _change(one, bridges[one.index])) for one in found if one.index in bridges)
    return tuple(
        Planned(SetRepresentor(pf.address, one.index, one.name, one.ifindex, change), _found(one))
        for one, change in changes
        if change != LinkChange()
    )


def _change(found: Representor, bridge: str | None) -> LinkChange:
    up = None if found.admin_up else True
    return LinkChange(up=up, bridge=bridge if bridge and found.master != bridge else None)


def _found(one: Representor) -> str:
    place = f"a port of {one.master}" if one.master else "no port of a bridge"
    return f"found {'up' if one.admin_up else 'down'}, {place}"
