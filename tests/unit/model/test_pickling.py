# SPDX-License-Identifier: Apache-2.0
"""What a worker sends costs little to send: a rule of the values' make, see `vfagent.model`."""

import dataclasses
from collections.abc import Iterator
from types import ModuleType

import pytest

from vfagent.model import desired, driver_state, inventory, vf_settings
from vfagent.plan import planner, steps, vf
from vfagent.policy import types
from vfagent.reconcile import rounds


def values(module: ModuleType) -> Iterator[type]:
    for found in vars(module).values():
        if isinstance(found, type) and dataclasses.is_dataclass(found) and found.__module__ == module.__name__:
            yield found


@pytest.mark.parametrize(
    "module",
    [rounds, desired, inventory, driver_state, vf_settings, planner, steps, vf, types],
    ids=lambda module: module.__name__,
)
def test_no_value_is_pickled_by_python_code(module: ModuleType) -> None:
    found = list(values(module))
    assert found
    assert [one.__name__ for one in found if "__getstate__" in vars(one)] == []
