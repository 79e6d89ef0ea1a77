# SPDX-License-Identifier: Apache-2.0
"""Who may import whom."""

import ast
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.rules.project import ROOT, imports, modules, none_of

# From the bottom up; a module imports from its own layer and those below. What is not named is the service's.
LAYERS = (
    {"errors", "frozen"},
    {"model"},
    {"policy"},
    {"plan"},
    {"diagnosis"},
    {"host"},
    {"advice", "observe", "observe_network", "move", "tally", "pace", "spare"},
    {"execute_sysfs"},
    {"execute_bind", "execute_network", "learnt"},
    {"execute", "reports"},
    {"stages"},
    {"reconcile"},
    {"pf_state", "release"},
    {"status", "telling"},
    {"convergence", "looks"},
    {"metrics"},
)
SERVICE = len(LAYERS)
FACE = {
    "cli": SERVICE + 2,
    "usage": SERVICE + 2,
    "service": SERVICE + 2,
    "verbs": SERVICE + 2,
    "show": SERVICE + 2,
    "apply": SERVICE + 2,
    "doctor": SERVICE + 2,
    "rom_verbs": SERVICE + 2,
    "screen": SERVICE + 2,
    "policy_on_disk": SERVICE + 2,
    "watch": SERVICE + 2,
    "__main__": SERVICE + 3,
}

# Where the time of day is asked for: to be shown. It jumps (by hand, by NTP, by a guest's resume), so nothing is
# reckoned by it; what takes time or is due is by the monotonic clock.
SHOWS_THE_TIME = {"vfagent/agent.py", "vfagent/rom_jobs.py", "vfagent/status.py", "vfagent/tally.py"}
TIME_OF_DAY = {"time.time", "time.time_ns", "datetime.now", "datetime.today", "datetime.utcnow", "date.today"}

PURE = ("vfagent/model/", "vfagent/policy/", "vfagent/plan/", "vfagent/diagnosis/")
EFFECTS = {"os", "asyncio", "subprocess", "socket", "threading", "multiprocessing", "signal", "fcntl", "select"}

# Where each library from outside may be imported.
LIBRARIES = {
    "vfagent/host/": {"pyudev", "pyroute2", "systemd", "jeepney", "tomli"},
    "vfagent/metrics/": {"prometheus_client"},
    "vfagent/show": {"rich"},
    "vfagent/cli": {"rich"},
}

HEAVY = {"pyroute2", "pyudev", "asyncio", "rich", "tomli", "tomllib", "systemd", "jeepney", "prometheus_client"}


def layer(name: str) -> int:
    """Of a module's full name. The package's own __init__ holds the version and is below everything."""
    part = name.split(".")[1] if "." in name else ""
    if not part or part == "__version__":
        return 0
    return FACE.get(part, next((number for number, names in enumerate(LAYERS) if part in names), SERVICE))


def module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def upward(path: str, tree: ast.Module) -> Iterator[str]:
    mine = layer(module_name(path))
    for line, name in imports(tree):
        if name.split(".")[0] == "vfagent" and layer(name) > mine:
            yield f"{path}:{line}: imports {name}, which is above it"


def impure(path: str, tree: ast.Module) -> Iterator[str]:
    for line, name in imports(tree):
        top = name.split(".")[0]
        if top in EFFECTS or name.startswith("logging.handlers") or not _ours_or_standard(top):
            yield f"{path}:{line}: imports {name}, and is to stay pure"


def misplaced(path: str, tree: ast.Module) -> Iterator[str]:
    allowed = set[str]().union(*(names for folder, names in LIBRARIES.items() if path.startswith(folder)))
    for line, name in imports(tree):
        top = name.split(".")[0]
        if not _ours_or_standard(top) and top not in allowed:
            yield f"{path}:{line}: imports {name} from outside"


def by_the_time_of_day(path: str, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        for name in _named(node):
            if name in TIME_OF_DAY and path not in SHOWS_THE_TIME:
                yield f"{path}:{getattr(node, 'lineno', 0)}: {name} jumps; time.monotonic does not"


def _named(node: ast.AST) -> Iterator[str]:
    """`of.name`, however it is written."""
    match node:
        case ast.Attribute(attr=name, value=ast.Name(id=of) | ast.Attribute(attr=of)):
            yield f"{of}.{name}"
        case ast.ImportFrom(module=str(of), names=names):
            yield from (f"{of}.{one.name}" for one in names)


def _ours_or_standard(top: str) -> bool:
    return top == "vfagent" or top in sys.stdlib_module_names


def test_imports_point_downwards() -> None:
    none_of([problem for path, tree in modules().items() for problem in upward(path, tree)])


def test_the_planning_half_is_pure() -> None:
    none_of([problem for path, tree in modules().items() if path.startswith(PURE) for problem in impure(path, tree)])


def test_kernel_and_bus_libraries_stay_behind_their_adapters() -> None:
    none_of([problem for path, tree in modules().items() for problem in misplaced(path, tree)])


def test_nothing_is_reckoned_by_the_time_of_day() -> None:
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
def test_a_reckoning_by_the_time_of_day_is_found(line: str) -> None:
    assert list(by_the_time_of_day("vfagent/pace.py", ast.parse(line)))


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("vfagent/plan/planner.py", "from vfagent.host import sysfs"),
        ("vfagent/model/pf.py", "from vfagent.policy.types import Policy"),
        ("vfagent/host/sysfs.py", "from vfagent import observe"),
        ("vfagent/observe.py", "from vfagent.reconcile import look"),
        ("vfagent/agent.py", "from vfagent.cli import Exit"),
    ],
)
def test_an_upward_import_is_found(path: str, line: str) -> None:
    assert list(upward(path, ast.parse(f"def late():\n    {line}")))


@pytest.mark.parametrize("line", ["import os.path", "import tomli", "from logging import handlers", "import socket"])
def test_an_impure_import_is_found(line: str) -> None:
    assert list(impure("vfagent/plan/planner.py", ast.parse(line)))


@pytest.mark.parametrize("line", ["import pyudev", "from pyroute2 import IPRoute", "import requests"])
def test_a_misplaced_library_is_found(line: str) -> None:
    assert list(misplaced("vfagent/observe.py", ast.parse(line)))


def test_the_service_does_not_load_what_only_other_verbs_want() -> None:
    program = "import sys; import vfagent.cli, vfagent.service, vfagent.agent; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "vfagent.agent" in loaded
    none_of([f"the service imports {name}" for name in sorted({"argparse", "rich", "vfagent.show"} & loaded)])


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["plan", "--help"]])
def test_help_waits_for_no_library(argv: list[str]) -> None:
    program = (
        "import sys; from vfagent.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program, *argv], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stderr.split()}
    assert "vfagent" in loaded
    none_of([f"vfagent {argv[0]} imports {name}" for name in sorted(HEAVY & loaded)])
