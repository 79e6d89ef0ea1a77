# SPDX-License-Identifier: Apache-2.0
"""Steps as values: each class has an executor and an identity, and every `match` over steps handles it."""

import ast
from collections.abc import Iterator
from dataclasses import fields
from operator import attrgetter
from typing import get_args

import pytest

from tests.rules.project import modules
from vfagent.kernel.protocols import Host
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import VfSettings, Vlan
from vfagent.plan.network_steps import AddFdb
from vfagent.plan.step_facts import StepFacts
from vfagent.plan.steps import BindDriver, ConfigureVf, SetAdminState, SetNumvfs, Step
from vfagent.reconcile.execute import execute

PF = PciAddress("0000:3b:00.0")
STEPS = {step.__name__ for step in get_args(Step)}
EXECUTORS = {
    "vfagent/reconcile/execute.py": ("execute",),
    "vfagent/reconcile/execute_network.py": ("execute_network", "_change_link"),
}


def matches_over_steps(tree: ast.Module) -> Iterator[ast.Match]:
    """Each `match` with a case that names a step class."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Match) and any(_classes(case.pattern) & STEPS for case in node.cases):
            yield node


def _classes(pattern: ast.AST) -> set[str]:
    """The classes that a pattern matches: of `ConfigureVf() | SetMtu()` both."""
    nodes = (node for node in ast.walk(pattern) if isinstance(node, ast.MatchClass))
    return {node.cls.id for node in nodes if isinstance(node.cls, ast.Name)}


def cases_of(path: str, function: str) -> set[str]:
    functions = (node for node in ast.walk(modules()[path]) if isinstance(node, ast.FunctionDef))
    body = next(node for node in functions if node.name == function)
    return {name for match in matches_over_steps(body) for case in match.cases for name in _classes(case.pattern)}  # type: ignore[arg-type]


def test_each_step_class_has_an_executor_and_each_executor_a_step_class() -> None:
    executed = {name for path, names in EXECUTORS.items() for name in names for name in cases_of(path, name)}
    assert executed == STEPS


def test_every_match_over_steps_handles_all_of_them() -> None:
    """The last case is `assert_never`, or passes the rest to another such match."""
    ends = {
        f"{path}:{match.lineno}": ast.unparse(match.cases[-1].body[0])
        for path, tree in modules().items()
        for match in matches_over_steps(tree)
        if isinstance(match.subject, ast.Name)  # a step alone; a match over (step, errno) handles some of them
    }
    passed_on = ("return execute_network(step, host, force=force)", "_change_link(step, host)")
    assert len(ends) >= 5
    assert {place: end for place, end in ends.items() if end not in (*passed_on, "assert_never(step)")} == {}


def test_a_step_without_an_executor_is_an_error() -> None:
    class Unknown(StepFacts):
        KEY = ()
        CHANGES = "nothing"

    with pytest.raises(AssertionError):
        execute(Unknown(), Host(*[None] * len(fields(Host))))  # type: ignore[arg-type]


def test_each_step_class_names_its_key_and_its_change() -> None:
    for step in get_args(Step):
        names = {field.name for field in fields(step)}
        assert {key.partition(".")[0] for key in step.KEY} <= names, step
        assert step.KIND.lower() == step.KIND
        assert step is ConfigureVf or step.CHANGES
    assert len({step.KIND for step in get_args(Step)}) == len(STEPS)


@pytest.mark.parametrize(
    ("step", "retried"),
    [
        (ConfigureVf(PF, 3, 1, VfSettings(trust=True, vlan=Vlan(10))), ConfigureVf(PF, 3, 1, VfSettings(trust=True))),
        (BindDriver(PF, 1, None, "vfio-pci"), BindDriver(PF, 1, PciAddress("0000:3b:02.1"), "vfio-pci")),
    ],
)
def test_a_step_retried_with_other_values_has_the_same_identity(step: Step, retried: Step) -> None:
    assert step.id == retried.id
    assert step != retried


def test_steps_about_different_objects_have_different_identities() -> None:
    steps: list[Step] = [
        SetNumvfs(PF, 0),
        SetNumvfs(PF, 4),
        SetAdminState(PF, 3, up=True),
        ConfigureVf(PF, 3, 0, VfSettings(trust=True)),
        ConfigureVf(PF, 3, 1, VfSettings(trust=True)),
        BindDriver(PF, 0, None, "vfio-pci"),
        BindDriver(PF, 0, None, None),
        AddFdb(PF, 3, "52:54:00:00:00:01"),
        AddFdb(PF, 3, "52:54:00:00:00:02"),
    ]
    assert len({step.id for step in steps}) == len(steps)
    assert all(isinstance(attrgetter("pf")(step), str) for step in steps)
