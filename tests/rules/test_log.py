# SPDX-License-Identifier: Apache-2.0
"""What is logged about a PF, a VF or a guest goes through vfagent/systemd/log.py, which adds the journal's fields."""

import ast
from collections.abc import Iterator

import pytest

from tests.rules.project import modules, none_of

LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def without_fields(path: str, tree: ast.Module) -> Iterator[str]:
    """Calls of a module's own logger with a message about one object, and fields that are given by hand."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS):
            continue
        texts = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        about = next((text for text in texts if isinstance(text, str)), "").lower()
        own = isinstance(node.func.value, ast.Name) and node.func.value.id == "log"
        if own and about.startswith(("pf ", "vf ", "guest ")):
            yield f"{path}:{node.lineno}: {about!r}: use for_pf or for_guest"
        if any(keyword.arg == "extra" for keyword in node.keywords):
            yield f"{path}:{node.lineno}: extra=: use for_pf or for_guest"


def test_every_record_about_an_object_has_its_fields() -> None:
    files = {path: tree for path, tree in modules().items() if path != "vfagent/systemd/log.py"}
    none_of([problem for path, tree in files.items() for problem in without_fields(path, tree)])


@pytest.mark.parametrize(
    "line", ['log.error("pf %s: stuck", pf)', 'log.info("guest %s: runs", name)', 'log.info("ready", extra={"A": "b"})']
)
def test_a_record_without_its_fields_is_found(line: str) -> None:
    assert list(without_fields("x.py", ast.parse(line)))


@pytest.mark.parametrize("line", ['log.info("guests: waiting for D-Bus")', 'pf_log(state).error("stuck")'])
def test_a_record_about_no_object_needs_none(line: str) -> None:
    assert not list(without_fields("x.py", ast.parse(line)))
