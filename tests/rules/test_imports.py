# SPDX-License-Identifier: Apache-2.0
"""Which module may import which."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Set

import pytest

from tests.rules.project import ROOT, imports, modules, none_of

# From the bottom up. A package imports from itself, from those before it, and from the files of `vfagent/` itself.
PACKAGES = (
    "vfagent.model",
    "vfagent.policy",
    "vfagent.plan",
    "vfagent.guests.spec",
    "vfagent.doctor.checks",
    "vfagent.process",
    "vfagent.kernel",
    "vfagent.systemd",
    "vfagent.store",
    "vfagent.metrics",
    "vfagent.reconcile",
    "vfagent.guests",
    "vfagent.service",
    "vfagent.doctor",
    "vfagent.cli",
)
# Named by the units of guests that an earlier version started; imported by nothing.
SHIM = "vfagent.host"
SHIM_FILES = {"vfagent/host/__init__.py", "vfagent/host/qmp.py"}
PURE = ("vfagent.model", "vfagent.policy", "vfagent.plan", "vfagent.guests.spec", "vfagent.doctor.checks")

# Modules that read the time of day, to show it. It jumps (an administrator, NTP, a VM's resume), so durations and
# deadlines use the monotonic clock.
SHOWS_THE_TIME = {
    "vfagent/service/agent.py",
    "vfagent/service/trial.py",
    "vfagent/cli/report.py",
    "vfagent/cli/status.py",
    "vfagent/service/status_cache.py",
    "vfagent/guests/rom_build.py",
    "vfagent/reconcile/numvfs_turn.py",
    "vfagent/guests/lifecycle.py",
    "vfagent/reconcile/card.py",
    "vfagent/reconcile/status.py",
    "vfagent/metrics/counters.py",
}
TIME_OF_DAY = {"time.time", "time.time_ns", "datetime.now", "datetime.today", "datetime.utcnow", "date.today"}
EFFECTS = {"os", "asyncio", "subprocess", "socket", "threading", "multiprocessing", "signal", "fcntl", "select"}

# Where each third-party library may be imported.
LIBRARIES = {
    "vfagent/kernel/": {"pyudev", "pyroute2"},
    "vfagent/systemd/": {"systemd", "jeepney"},
    "vfagent/store/": {"tomli"},
    "vfagent/doctor/kernel_log.py": {"systemd"},
    "vfagent/metrics/": {"prometheus_client"},
    "vfagent/guests/seed.py": {"pycdlib"},
}

HEAVY = {
    "pyroute2",
    "pyudev",
    "asyncio",
    "rich",
    "tomli",
    "tomllib",
    "systemd",
    "jeepney",
    "prometheus_client",
    "pycdlib",
}


def layer(name: str) -> int:
    """The index in PACKAGES of a module, by its full name; -1 for the files of `vfagent/` itself."""
    inside = [number for number, package in enumerate(PACKAGES) if f"{name}.".startswith(f"{package}.")]
    return max(inside, key=lambda number: len(PACKAGES[number]), default=-1)


def module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def upward(path: str, tree: ast.Module) -> Iterator[str]:
    """`vfagent/__main__.py` and the shim are entry points: they alone are in no package, and import from any."""
    entry = path == "vfagent/__main__.py" or path in SHIM_FILES
    own = len(PACKAGES) if entry else layer(module_name(path))
    for line, name in imports(tree):
        if name.split(".")[0] == "vfagent" and layer(name) > own:
            yield f"{path}:{line}: imports {name}, which is above it"


def circles(graph: Mapping[str, Set[str]]) -> list[list[str]]:
    """The groups of files that import each other, directly or through others."""
    reach = {file: _reachable(file, graph) for file in graph}
    groups = {frozenset(b for b in reach[a] if a in reach[b]) for a in graph if a in reach[a]}
    return sorted(sorted(group) for group in groups)


def _reachable(start: str, graph: Mapping[str, Set[str]]) -> set[str]:
    reached: set[str] = set()
    ahead = list(graph[start])
    while ahead:
        file = ahead.pop()
        if file not in reached:
            reached.add(file)
            ahead += graph.get(file, ())
    return reached


def file_imports() -> dict[str, set[str]]:
    """Each module of vfagent with the modules it imports, late imports included."""
    names = {module_name(path): tree for path, tree in modules().items()}
    return {
        name: {imported for _, imported in imports(tree) if imported in names} - {name} for name, tree in names.items()
    }


def impure(path: str, tree: ast.Module) -> Iterator[str]:
    for line, name in imports(tree):
        top = name.split(".")[0]
        if top in EFFECTS or name.startswith("logging.handlers") or not _is_own_or_standard(top):
            yield f"{path}:{line}: imports {name}, but must stay pure"


def misplaced(path: str, tree: ast.Module) -> Iterator[str]:
    allowed = set[str]().union(*(names for folder, names in LIBRARIES.items() if path.startswith(folder)))
    for line, name in imports(tree):
        top = name.split(".")[0]
        if not _is_own_or_standard(top) and top not in allowed:
            yield f"{path}:{line}: imports the third-party library {name}"


def by_the_time_of_day(path: str, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        for name in _named(node):
            if name in TIME_OF_DAY and path not in SHOWS_THE_TIME:
                yield f"{path}:{getattr(node, 'lineno', 0)}: {name} jumps; time.monotonic does not"


def _named(node: ast.AST) -> Iterator[str]:
    """`of.name`, in any spelling."""
    match node:
        case ast.Attribute(attr=name, value=ast.Name(id=of) | ast.Attribute(attr=of)):
            yield f"{of}.{name}"
        case ast.ImportFrom(module=str(of), names=names):
            yield from (f"{of}.{alias.name}" for alias in names)


def _is_own_or_standard(top: str) -> bool:
    return top == "vfagent" or top in sys.stdlib_module_names


# How much an import inside a function saves, on its line or in the comment above it: "12 ms", "0.3 MiB".
SAVING = re.compile(r"#.*\d\s?(ms|MiB)\b")


def unmeasured_late_imports(path: str, source: str) -> Iterator[str]:
    """Imports of vfagent inside functions without the time or memory that they save."""
    lines = source.splitlines()
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for line, name in imports(ast.Module(function.body, [])):
            if name.split(".")[0] == "vfagent" and not SAVING.search(_with_comment_above(lines, line)):
                yield f"{path}:{line}: imports {name} inside a function, without a measured reason"


def _with_comment_above(lines: list[str], line: int) -> str:
    """The line, and the comment above it or above the block of imports that it belongs to."""
    start = line - 1
    while lines[start - 1].lstrip().startswith(("from ", "import ")):
        start -= 1
    comment = start
    while lines[comment - 1].lstrip().startswith("#"):
        comment -= 1
    return " ".join([*(text.strip() for text in lines[comment:start]), lines[line - 1]])


def test_late_imports_have_a_measured_reason() -> None:
    problems = (problem for path in modules() for problem in unmeasured_late_imports(path, (ROOT / path).read_text()))
    none_of(sorted(set(problems)))


@pytest.mark.parametrize(
    ("source", "allowed"),
    [
        ("from vfagent.errors import VfagentError", True),
        ("if TYPE_CHECKING:\n    from vfagent.metrics.server import Server", True),
        ("def f():\n    import ssl", True),
        ("def f():\n    from vfagent.errors import VfagentError", False),
        ("def f():\n    from vfagent.errors import VfagentError  # late: it is slow", False),
        ("def f():\n    if late:\n        import vfagent.errors", False),
        ("def f():\n    from vfagent.errors import VfagentError  # late: 12 ms", True),
        ("async def f():\n    # 0.3 MiB that the\n    # service does not need\n    import vfagent.errors", True),
        ("def f():\n    # 3 ms\n    import vfagent.frozen\n    import vfagent.errors", True),
        ("def f():\n    import vfagent.frozen  # 3 ms\n    import vfagent.errors", False),
        ("def f():\n    x = 1  # 3 ms\n    import vfagent.errors", False),
    ],
)
def test_a_late_import_without_a_measured_reason_is_found(source: str, allowed: bool) -> None:  # noqa: FBT001
    assert (list(unmeasured_late_imports("x.py", source)) == []) is allowed


def test_no_package_imports_from_one_above_it() -> None:
    none_of([problem for path, tree in modules().items() for problem in upward(path, tree)])


def test_every_file_is_in_a_package() -> None:
    assert len(PACKAGES) <= 15
    files = [path for path in modules() if path.count("/") == 1]
    assert len(files) <= 6, files
    none_of(
        [path for path in modules() if path.count("/") > 1 and layer(module_name(path)) < 0 and path not in SHIM_FILES]
    )


def test_nothing_imports_the_shim() -> None:
    none_of(
        [
            f"{path}:{line}: imports {name}"
            for path, tree in modules().items()
            for line, name in imports(tree)
            if f"{name}.".startswith(f"{SHIM}.")
        ]
    )


def test_no_two_files_import_each_other() -> None:
    none_of([" and ".join(group) for group in circles(file_imports())])


def test_a_circle_of_files_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_the_pure_packages_import_nothing_with_effects() -> None:
    none_of(
        [
            problem
            for path, tree in modules().items()
            if module_name(path).startswith(PURE)
            for problem in impure(path, tree)
        ]
    )


def test_kernel_and_bus_libraries_stay_behind_their_adapters() -> None:
    none_of([problem for path, tree in modules().items() for problem in misplaced(path, tree)])


def test_only_modules_that_show_the_time_read_it() -> None:
    none_of([problem for path, tree in modules().items() for problem in by_the_time_of_day(path, tree)])


@pytest.mark.parametrize(
    "line",
    [
        "time.time()",
        "datetime.datetime.now()",
        "date.today()",
        "call_at(time.time, 1)",
        "from time import time_ns as now",
    ],
)
def test_a_use_of_the_time_of_day_is_found(line: str) -> None:
    assert list(by_the_time_of_day("vfagent/process/throttle.py", ast.parse(line)))


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("vfagent/errors.py", "from vfagent.model.pci import PciAddress"),
        ("vfagent/plan/planner.py", "from vfagent.kernel import sysfs"),
        ("vfagent/model/pf.py", "from vfagent.policy.types import Policy"),
        ("vfagent/kernel/sysfs.py", "from vfagent import reconcile"),
        ("vfagent/guests/spec/unit.py", "from vfagent.guests.state import GuestState"),
        ("vfagent/reconcile/observe.py", "from vfagent.service.agent import Agent"),
        ("vfagent/service/agent.py", "from vfagent.cli.main import main"),
    ],
)
def test_an_upward_import_is_found(path: str, line: str) -> None:
    assert list(upward(path, ast.parse(f"def late():\n    {line}")))


@pytest.mark.parametrize("line", ["import os.path", "import tomli", "from logging import handlers", "import socket"])
def test_an_impure_import_is_found(line: str) -> None:
    assert list(impure("vfagent/plan/planner.py", ast.parse(line)))


@pytest.mark.parametrize("line", ["import pyudev", "from pyroute2 import IPRoute", "import requests"])
def test_a_misplaced_library_is_found(line: str) -> None:
    assert list(misplaced("vfagent/reconcile/observe.py", ast.parse(line)))


def test_the_service_does_not_load_what_only_other_verbs_need() -> None:
    program = "import sys; import vfagent.cli.main, vfagent.service, vfagent.service.agent; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "vfagent.service.agent" in loaded
    none_of([f"the service imports {name}" for name in sorted({"argparse", "rich", "vfagent.cli.text"} & loaded)])


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["plan", "--help"]])
def test_help_loads_no_slow_library(argv: list[str]) -> None:
    program = (
        "import sys; from vfagent.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program, *argv], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stderr.split()}
    assert "vfagent" in loaded
    none_of([f"vfagent {argv[0]} imports {name}" for name in sorted(HEAVY & loaded)])
