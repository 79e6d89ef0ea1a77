# SPDX-License-Identifier: Apache-2.0
"""What steps teach about a PF, and what must be remembered before one is carried out."""

from dataclasses import fields, replace

from vfagent.model.driver_state import PfMemory, StepResult
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


def learn(memory: PfMemory, step: Step, result: StepResult) -> PfMemory:
    memory = memory.learnt(result)
    match step:
        case SetNumvfs():
            return memory.without_vfs()
        case ConfigureVf():
            before = memory.applied.get(step.index)
            applied = result.applied if before is None else _over(result.applied, before)
            return memory.with_applied(step.index, applied)
        case SetEswitch() if not result.unsupported:
            return replace(memory, unsupported=frozenset())  # mlx5: no VLANs of VFs in switchdev mode
        case SetHwmode() if Attribute.HWMODE not in result.unsupported:
            return replace(memory, hwmode=step.mode)
        case AddAddress() | MoveAddresses():
            return replace(memory, addressed=True)
        case AddFdb() if result.full or result.unsupported:
            entries = memory.fdb - {step.mac}
            return replace(memory, fdb=entries, fdb_full=len(entries) if result.full else memory.fdb_full)
        case AddFdb():
            return replace(memory, fdb=memory.fdb | {step.mac})
        case RemoveFdb():
            return replace(memory, fdb=memory.fdb - {step.mac}, fdb_full=None)
        case _:
            return memory


def _over(new: VfSettings, old: VfSettings) -> VfSettings:
    given = {one.name: value for one in fields(new) if (value := getattr(new, one.name)) is not None}
    return replace(old, **given)


def before_steps(memory: PfMemory, plan: Plan) -> PfMemory:
    """On disk before the first step, since a kill must leave no doubt of it.

    What was set of VFs that will be others is forgotten, so that it is not believed of those. Entries that are about
    to be added to the card's table are vfagent's own: the kernel does not tell whose they are.
    """
    steps = [planned.step for planned in plan.steps]
    if memory.applied and any(isinstance(step, SetNumvfs) for step in steps):
        memory = memory.without_vfs()
    added = {step.mac for step in steps if isinstance(step, AddFdb)}
    return replace(memory, fdb=memory.fdb | added) if added - memory.fdb else memory
