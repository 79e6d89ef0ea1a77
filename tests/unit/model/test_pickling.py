# SPDX-License-Identifier: Apache-2.0
"""Values are pickled by C code, as they pass between processes often; see `vfagent.model`."""

import dataclasses
from collections.abc import Iterator
from types import ModuleType

import pytest

from vfagent.model import desired, driver_state, inventory, vf_settings
from vfagent.plan import planner, steps, vf
from vfagent.policy import types
from vfagent.reconcile import rounds


def values(module: ModuleType) -> Iterator[type]:
    for item in vars(module).values():
        if isinstance(item, type) and dataclasses.is_dataclass(item) and item.__module__ == module.__name__:
            yield item


@pytest.mark.parametrize(
    "module",
    [rounds, desired, inventory, driver_state, vf_settings, planner, steps, vf, types],
    ids=lambda module: module.__name__,
)
def test_no_value_defines_getstate(module: ModuleType) -> None:
    classes = list(values(module))
    assert classes
    assert [cls.__name__ for cls in classes if "__getstate__" in vars(cls)] == []
