# SPDX-License-Identifier: Apache-2.0
"""The source tree, for the tests of its rules."""

import ast
import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "vfagent"


def passes(*argv: str | Path, cwd: Path = ROOT) -> None:
    """Runs a tool. If it finds something, the failure shows only the tool's output."""
    __tracebackhide__ = True
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode or done.stderr:
        pytest.fail(f"{done.stdout}{done.stderr}", pytrace=False)


def none_of(problems: list[str]) -> None:
    __tracebackhide__ = True
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


@functools.cache
def modules() -> dict[str, ast.Module]:
    """The package's modules by path from its parent: `vfagent/kernel/udev.py`."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in paths}


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every imported module, late imports included: line and full name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module
            if node.module in ("vfagent", "logging"):
                yield from ((node.lineno, f"{node.module}.{name.name}") for name in node.names)
