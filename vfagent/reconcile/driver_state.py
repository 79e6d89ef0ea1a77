# SPDX-License-Identifier: Apache-2.0
"""What steps teach about a PF, and what must be remembered before one is carried out."""

from dataclasses import fields, replace

from vfagent.model.driver_state import DriverState, StepResult
from vfagent.model.vf_settings import Attribute, VfSettings
from vfagent.plan.planner import Plan
from vfagent.plan.steps import (
    AddAddress,
    AddFdb,
    ConfigureVf,
    MoveAddresses,
    RemoveFdb,
    SetEswitch,
    SetHwmode,
    SetNumvfs,
    Step,
)


def record_result(driver_state: DriverState, step: Step, result: StepResult) -> DriverState:
    driver_state = driver_state.updated(result)
    match step:
        case SetNumvfs():
            return driver_state.without_vfs()
        case ConfigureVf():
            before = driver_state.applied.get(step.index)
            applied = result.applied if before is None else _over(result.applied, before)
            return driver_state.with_applied(step.index, applied)
        case SetEswitch() if not result.unsupported:
            return replace(driver_state, unsupported=frozenset())  # mlx5: no VLANs of VFs in switchdev mode
        case SetHwmode() if Attribute.HWMODE not in result.unsupported:
            return replace(driver_state, hwmode=step.mode)
        case AddAddress() | MoveAddresses():
            return replace(driver_state, addressed=True)
        case AddFdb() if result.full or result.unsupported:
            entries = driver_state.fdb - {step.mac}
            return replace(driver_state, fdb=entries, fdb_full=len(entries) if result.full else driver_state.fdb_full)
        case AddFdb():
            return replace(driver_state, fdb=driver_state.fdb | {step.mac})
        case RemoveFdb():
            return replace(driver_state, fdb=driver_state.fdb - {step.mac}, fdb_full=None)
        case _:
            return driver_state


def _over(new: VfSettings, old: VfSettings) -> VfSettings:
    given = {one.name: value for one in fields(new) if (value := getattr(new, one.name)) is not None}
    return replace(old, **given)


def before_steps(driver_state: DriverState, plan: Plan) -> DriverState:
    """On disk before the first step, since a kill must leave no doubt of it.

    What was set of VFs that will be others is forgotten, so that it is not believed of those. Entries that are about
    to be added to the card's table are vfagent's own: the kernel does not tell whose they are.
    """
    steps = [planned.step for planned in plan.steps]
    if driver_state.applied and any(isinstance(step, SetNumvfs) for step in steps):
        driver_state = driver_state.without_vfs()
    added = {step.mac for step in steps if isinstance(step, AddFdb)}
    return replace(driver_state, fdb=driver_state.fdb | added) if added - driver_state.fdb else driver_state
