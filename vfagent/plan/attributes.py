# SPDX-License-Identifier: Apache-2.0
"""What a step is about, in words that stay the same: for metrics, which must not grow with what they count."""

import re
from collections.abc import Iterable
from dataclasses import fields
from typing import get_args

from vfagent.model.vf_settings import VfSettings
from vfagent.plan.steps import (
    AddAddress,
    AddFdb,
    BindDriver,
    ConfigureVf,
    MoveAddresses,
    RemoveAddress,
    RemoveFdb,
    RollBackMove,
    SetAdminState,
    SetAutoprobe,
    SetEswitch,
    SetHwmode,
    SetMtu,
    SetNumvfs,
    Step,
    UnbindDriver,
)


def kind(step: type[Step] | Step) -> str:
    """`set_numvfs`."""
    name = (step if isinstance(step, type) else type(step)).__name__
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


KINDS: tuple[str, ...] = tuple(kind(one) for one in get_args(Step))


ATTRIBUTES: tuple[str, ...] = (
    "numvfs",
    "autoprobe",
    "admin_state",
    "mtu",
    "driver",
    "link",
    "address",
    "fdb",
    "hwmode",
    "eswitch",
    *(one.name for one in fields(VfSettings)),
)


def attributes(step: Step) -> tuple[str, ...]:
    """What of the PF or VF the step changes."""
    match step:
        case ConfigureVf():
            return tuple(one.name for one in fields(step.settings) if getattr(step.settings, one.name) is not None)
        case BindDriver() | UnbindDriver():
            return ("driver",)
        case SetNumvfs():
            return ("numvfs",)
        case SetAutoprobe():
            return ("autoprobe",)
        case SetAdminState():
            return ("admin_state",)
        case SetMtu():
            return ("mtu",)
        case _:
            return (_network_attribute(step),)


def _network_attribute(step: Step) -> str:
    match step:
        case AddAddress() | RemoveAddress() | MoveAddresses() | RollBackMove():
            return "address"
        case AddFdb() | RemoveFdb():
            return "fdb"
        case SetHwmode():
            return "hwmode"
        case SetEswitch():
            return "eswitch"
        case _:
            return "link"


def vf_index(step: Step) -> int | None:
    """The VF the step is about; None for what concerns the PF as a whole."""
    index = getattr(step, "index", None)
    return index if isinstance(index, int) else None


def differing(steps: Iterable[Step]) -> dict[int | None, tuple[str, ...]]:
    """The attributes that steps would change, by VF; those of the PF itself under None."""
    found: dict[int | None, set[str]] = {}
    for step in steps:
        found.setdefault(vf_index(step), set()).update(attributes(step))
    return {index: tuple(sorted(names)) for index, names in found.items()}
