# SPDX-License-Identifier: Apache-2.0
"""What steps show of a PF's driver, and what is stored before a step is carried out."""

from dataclasses import fields, replace
from typing import assert_never

from vfagent.model.desired import HOST_DRIVER, KEEP_DRIVER, driver_word
from vfagent.model.driver_state import DriverState, StepResult
from vfagent.model.vf_settings import Attribute, VfSettings
from vfagent.plan.network_steps import (
    AddAddress,
    AddFdb,
    CreateBridge,
    CreateVlan,
    DeleteLink,
    FdbStep,
    MarkLink,
    MoveAddresses,
    RemoveAddress,
    RemoveFdb,
    RollBackMove,
    SetAutoconf,
    SetEswitch,
    SetHwmode,
    SetLink,
    SetRepresentor,
)
from vfagent.plan.steps import (
    BindDriver,
    ConfigureVf,
    SetAdminState,
    SetAutoprobe,
    SetMtu,
    SetNumvfs,
    Step,
    UnbindDriver,
)
from vfagent.reconcile.reports import Observed


def record_result(driver_state: DriverState, step: Step, result: StepResult) -> DriverState:
    driver_state = driver_state.updated(result)
    match step:
        case SetNumvfs():
            driver_state = driver_state.without_vfs()
            return driver_state if result.made is None else driver_state.with_made(result.made, step.count)
        case SetAdminState():
            return replace(driver_state, brought_up=step.up)
        case ConfigureVf():
            before = driver_state.applied.get(step.index)
            applied = result.applied if before is None else _over(result.applied, before)
            return driver_state.with_applied(step.index, applied)
        case SetEswitch() if not result.unsupported:
            return replace(driver_state, unsupported={})  # mlx5: no VLANs of VFs in switchdev mode
        case SetHwmode() if Attribute.HWMODE not in result.unsupported:
            return replace(driver_state, hwmode=step.mode)
        case AddAddress() | MoveAddresses():
            return replace(driver_state, addressed=True)
        case AddFdb() | RemoveFdb():
            return _with_entry(driver_state, step, result)
        case SetLink() | SetRepresentor() | DeleteLink():
            return _with_port(driver_state, step)
        case (
            SetAutoprobe() | SetMtu() | BindDriver() | UnbindDriver()
            | CreateVlan() | CreateBridge() | MarkLink()
            | RemoveAddress() | RollBackMove() | SetEswitch() | SetHwmode() | SetAutoconf()
        ):  # fmt: skip
            return driver_state
        case _:
            assert_never(step)


def _with_entry(driver_state: DriverState, step: FdbStep, result: StepResult) -> DriverState:
    without = driver_state.fdb - {step.mac}
    match step:
        case AddFdb() if result.full:
            return replace(driver_state, fdb=without, fdb_full=len(without))
        case AddFdb() if result.unsupported or result.fdb_refusal:
            return replace(driver_state, fdb=without, fdb_refusal=result.fdb_refusal)
        case AddFdb():
            return replace(driver_state, fdb=driver_state.fdb | {step.mac})
        case RemoveFdb() if result.fdb_refusal:
            return replace(driver_state, fdb_refusal=result.fdb_refusal)
        case RemoveFdb():
            return replace(driver_state, fdb=without, fdb_full=None)
        case _:
            assert_never(step)


def _with_port(driver_state: DriverState, step: SetLink | SetRepresentor | DeleteLink) -> DriverState:
    bridge = "" if isinstance(step, DeleteLink) else step.change.bridge
    if bridge is None:
        return driver_state
    others = frozenset(pair for pair in driver_state.joined if pair[0] != step.name)
    return replace(driver_state, joined=others | {(step.name, bridge)} if bridge else others)


def _over(new: VfSettings, old: VfSettings) -> VfSettings:
    values = {field.name: value for field in fields(new) if (value := getattr(new, field.name)) is not None}
    return replace(old, **values)


def before_steps(driver_state: DriverState, observed: Observed) -> DriverState:
    """The driver state to store before the first step, so that it is right after a kill at any time.

    What was set on VFs that are about to be replaced is forgotten, so that it does not count for the new ones. FDB
    entries that are about to be added are vfagent's own, and so are ports that are about to join a bridge: the kernel
    does not say who made an entry or a port. VFs that keep their driver are bound again to what they had, and new ones
    to their host driver.
    """
    steps = [planned.step for planned in observed.plan.steps]
    if driver_state.applied and any(isinstance(step, SetNumvfs) for step in steps):
        driver_state = driver_state.without_vfs()
    if unbound := _about_to_be_unbound(observed):
        driver_state = replace(driver_state, unbound=driver_state.unbound | unbound)
    joining = (step for step in steps if isinstance(step, SetLink | SetRepresentor))
    if ports := {(step.name, step.change.bridge) for step in joining if step.change.bridge} - driver_state.joined:
        driver_state = replace(driver_state, joined=driver_state.joined | ports)
    added = {step.mac for step in steps if isinstance(step, AddFdb)}
    return replace(driver_state, fdb=driver_state.fdb | added) if added - driver_state.fdb else driver_state


def _about_to_be_unbound(observed: Observed) -> dict[int, str]:
    if observed.pf is None or observed.desired is None:
        return {}
    kept = {vf.index for vf in observed.desired.vfs if vf.driver == KEEP_DRIVER}
    steps = [planned.step for planned in observed.plan.steps]
    if any(isinstance(step, SetNumvfs) and step.count for step in steps):
        return dict.fromkeys(kept, HOST_DRIVER)
    unbound = {step.index for step in steps if isinstance(step, UnbindDriver)}
    return {vf.index: driver_word(vf) for vf in observed.pf.vfs if vf.index in kept & unbound}
