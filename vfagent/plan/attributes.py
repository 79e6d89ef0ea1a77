# SPDX-License-Identifier: Apache-2.0
"""What steps change, by VF: for status and metrics, as a fixed set of words."""

from collections.abc import Iterable
from dataclasses import fields
from typing import get_args

from vfagent.model.vf_settings import VfSettings
from vfagent.plan.steps import ConfigureVf, Step

ATTRIBUTES: tuple[str, ...] = (
    *dict.fromkeys(step.CHANGES for step in get_args(Step) if step is not ConfigureVf),
    *(field.name for field in fields(VfSettings)),
)


def vf_index(step: Step) -> int | None:
    """The VF that the step is about; None for a step about the PF as a whole."""
    index = getattr(step, "index", None)
    return index if isinstance(index, int) else None


def differing(steps: Iterable[Step]) -> dict[int | None, tuple[str, ...]]:
    """The attributes that steps would change, by VF; those of the PF itself under None."""
    names: dict[int | None, set[str]] = {}
    for step in steps:
        names.setdefault(vf_index(step), set()).update(step.changes)
    return {index: tuple(sorted(changed)) for index, changed in names.items()}
