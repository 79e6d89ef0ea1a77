# SPDX-License-Identifier: Apache-2.0
"""Sizes of files and functions, names of modules, and dataclasses."""

import ast
from collections.abc import Iterator

from tests.rules.project import PACKAGE, ROOT, modules, none_of

LONGEST_FILE, LONGEST_FUNCTION = 400, 60
SPDX = "# SPDX-License-Identifier: Apache-2.0"
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}


def test_files_stay_short() -> None:
    sizes = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    none_of([f"{path}: {size} lines, split it" for path, size in sizes.items() if size > LONGEST_FILE])


def test_functions_stay_short() -> None:
    functions = [
        (path, node.name, node.lineno, (node.end_lineno or 0) - node.lineno + 1)
        for path, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert functions
    none_of(
        [f"{path}:{line}: {name} has {size} lines" for path, name, line, size in functions if size > LONGEST_FUNCTION]
    )


def test_each_file_begins_with_its_licence() -> None:
    sources = [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py"), ROOT / "packaging/vfagent", ROOT / "Makefile"]
    none_of(
        [f"{path.relative_to(ROOT)}: no SPDX line first" for path in sources if _first_line(path.read_text()) != SPDX]
    )


def _first_line(text: str) -> str:
    lines = [line for line in text.splitlines() if not line.startswith("#!")]
    return lines[0] if lines else ""


def test_no_module_has_an_empty_name() -> None:
    none_of([str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*") if path.stem in EMPTY_NAMES])


def test_a_shebang_may_come_before_the_licence() -> None:
    assert _first_line(f"#!/usr/bin/python3\n{SPDX}\n") == SPDX
    assert _first_line(f'"""Doc."""\n{SPDX}\n') != SPDX


def decorated(tree: ast.Module) -> Iterator[tuple[ast.ClassDef, str]]:
    """Each class with each of its decorators."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from ((node, ast.unparse(decorator)) for decorator in node.decorator_list)


def test_each_dataclass_has_a_docstring() -> None:
    """Without one, `dataclasses` makes one from the signature, with `inspect`, at each start."""
    decorators = ("dataclass", "frozen")
    classes = [
        (path, node)
        for path, tree in modules().items()
        for node, how in decorated(tree)
        if how.split("(")[0] in decorators
    ]
    assert classes
    none_of([f"{path}:{node.lineno}: {node.name}" for path, node in classes if not ast.get_docstring(node)])


def test_frozen_dataclasses_use_vfagent_frozen() -> None:
    slow = [
        f"{path}:{node.lineno}: {node.name}: @{how}: use vfagent.frozen"
        for path, tree in modules().items()
        for node, how in decorated(tree)
        if "frozen=True" in how and "eq=False" not in how
    ]
    none_of(slow)
