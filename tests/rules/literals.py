# SPDX-License-Identifier: Apache-2.0
"""What a test types: the string literals of its function, and of all that it uses from the tests."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

from tests.rules.project import ROOT


@functools.cache
def _definitions(path: Path) -> dict[str, ast.stmt]:
    """The functions, classes, constants and imports at the top of a module, by name."""
    defined = dict[str, ast.stmt]()
    for node in ast.parse(path.read_text()).body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                defined[name] = node
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                defined[name] = node
            case ast.ImportFrom(names=names):
                defined |= {alias.asname or alias.name: node for alias in names}
    return defined


def _imported(node: ast.ImportFrom, name: str) -> tuple[Path, str] | None:
    original = next(alias.name for alias in node.names if name in (alias.asname, alias.name))
    path = ROOT / f"{(node.module or '').replace('.', '/')}.py"
    return (path, original) if path.is_relative_to(ROOT / "tests") and path.exists() else None


def _names(node: ast.stmt) -> Iterator[str]:
    """All names, and those of the parameters: a fixture is a parameter's name."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            yield part.id
        elif isinstance(part, ast.arg):
            yield part.arg


def _literals(node: ast.AST) -> Iterator[str]:
    """The strings, in the source's order, without docstrings."""
    for part in ast.iter_child_nodes(node):
        match part:
            case ast.Expr(value=ast.Constant()):
                continue
            case ast.Constant(value=str(text)):
                yield text
            case _:
                yield from _literals(part)


def literals(test: str) -> str:
    """`PATH::FUNCTION` to its literals, with one space between words."""
    path, _, name = test.partition("::")
    rest, seen, words = [(ROOT / path, name)], set[tuple[Path, str]](), list[str]()
    while rest:
        place = rest.pop()
        module, wanted = place
        if place in seen or (node := _definitions(module).get(wanted)) is None:
            continue
        seen.add(place)
        if isinstance(node, ast.ImportFrom):
            rest += filter(None, [_imported(node, wanted)])
            continue
        words += [word for text in _literals(node) for word in text.split()]
        rest += [(module, used) for used in _names(node)]
    return " ".join(words)
