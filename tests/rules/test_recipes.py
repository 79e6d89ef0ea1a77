# SPDX-License-Identifier: Apache-2.0
"""The recipes of HACKING.md are complete: they are followed, or held against the tree."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rules.commands import command_of
from tests.rules.project import ROOT, modules, none_of
from tests.unit.plan.test_steps import matches_over_steps
from vfagent.doctor.checks.registry import CHECKS
from vfagent.metrics.page import FAMILIES
from vfagent.model.vf_settings import Attribute, VfSettings
from vfagent.policy.document import BEGIN, END

RECIPE = re.compile(r"(?s)<!-- recipe: ([a-z-]+) -->(.*?)<!-- end -->")
RECIPES = dict(RECIPE.findall((ROOT / "HACKING.md").read_text()))

# What the recipe makes of a new attribute is tried in a copy of the tree, by a program of its own.
TRIAL = """
from vfagent.kernel.netlink import attributes
from vfagent.kernel.vf_attributes import unpacked, vf_infos
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Netdev, Pf, Vf
from vfagent.model.pci import PciAddress
from vfagent.model.vf_settings import Attribute, VfSettings
from vfagent.plan.attributes import ATTRIBUTES
from vfagent.plan.planner import plan_pf
from vfagent.policy.json_schema import schema
from vfagent.policy.match import HostIdentity, desired_pf
from vfagent.store.policy_files import load_files
from pathlib import Path

policy = load_files([Path("policy.toml")])
address = PciAddress("0000:3b:00.0")
for reported in (False, None):
    settings = VfSettings(mac="02:00:00:00:00:01", another=reported)
    vf = Vf(0, PciAddress("0000:3b:02.0"), "iavf", settings=settings)
    netdev = Netdev("ens1", 3, "02:00:00:00:00:00", None, 1500, admin_up=True)
    pf = Pf(address, "ice", "0x8086", "0x1592", "0x020000", 8, autoprobe=False, vfs=(vf,), netdev=netdev)
    desired = desired_pf(policy, pf, HostIdentity("host", "0" * 32))
    plan = plan_pf(desired, pf, DriverState())
    print([planned.step.describe() for planned in plan.steps], [planned.step.changes for planned in plan.steps])
    refused = DriverState(driver="ice", ifindex=3, unsupported={Attribute.ANOTHER: ""})
    plan = plan_pf(desired, pf, refused)
    print([planned.step.describe() for planned in plan.steps], plan.notes)
info = dict(attributes(b"".join(vf_infos(0, VfSettings(another=True)))))
info[1] = bytes(36)
print(unpacked(info).another, "another" in ATTRIBUTES, "another" in str(schema()))
"""
POLICY = """
[[pf]]
name = "storage"
match = { driver = "ice" }
vfs = 1
[[pf.vf]]
driver = "host"
another = true
"""

ANOTHER_WORKS = [
    "['set 0000:3b:00.0/vf0 another on'] [('another',)]",
    "[] ('another is not supported by ice',)",
    "['set 0000:3b:00.0/vf0 another on'] [('another',)]",
    "[] ('another is not supported by ice',)",
    "True True True",
]


def paths_of(recipe: str) -> set[str]:
    return set(re.findall(r"`([a-z]+/[\w/.]+)`", RECIPES[recipe]))


def test_each_file_of_a_recipe_exists() -> None:
    assert set(RECIPES) == {"vf-attribute", "step", "doctor-check", "metric"}
    none_of([f"{name}: {path}" for name in RECIPES for path in paths_of(name) if not (ROOT / path).exists()])


def test_each_answer_to_where_something_is_exists() -> None:
    rows = re.findall(r"(?m)^\| .*\? \| `([\w/]+/)` \| `(\w+\.py)` \|$", (ROOT / "HACKING.md").read_text())
    assert len(rows) >= 10
    none_of([folder + file for folder, file in rows if not (ROOT / folder / file).exists()])


def as_trust(text: str) -> str:
    """The file with a second attribute beside `trust` that is treated alike: each statement that is about it, twice."""
    lines = text.splitlines(keepends=True)
    about = [node for node in ast.walk(ast.parse(text)) if _is_about_trust(node)]
    for node in sorted(about, key=lambda node: node.lineno, reverse=True):  # type: ignore[attr-defined]
        first, last = node.lineno - 1, node.end_lineno  # type: ignore[attr-defined]
        copy = "".join(lines[first:last]).replace("TRUST", "ANOTHER").replace("trust", "another")
        lines[last:last] = [copy.replace("_row(9,", "_row(14,").replace("disturbs=True", "disturbs=False")]
    return "".join(lines)


def _is_about_trust(node: ast.AST) -> bool:
    match node:
        case ast.AnnAssign(target=ast.Name(id="trust")) | ast.Assign(targets=[ast.Name(id="TRUST")]):
            return True
    return False


@pytest.fixture(scope="module")
def with_another(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The product with an attribute that no kernel has yet (14 comes after IFLA_VF_BROADCAST), made by the recipe."""
    folder = tmp_path_factory.mktemp("recipe")
    shutil.copytree(ROOT / "vfagent", folder / "vfagent", ignore=shutil.ignore_patterns("__pycache__"))
    for path in paths_of("vf-attribute"):
        file = folder / path
        if file.suffix == ".py" and file.is_file():
            file.write_text(as_trust(file.read_text()))
    (folder / "policy.toml").write_text(POLICY)
    return folder


def test_a_vf_attribute_made_by_the_recipe_is_planned_set_and_read(with_another: Path) -> None:
    argv = [sys.executable, "-c", TRIAL]
    done = subprocess.run(argv, cwd=with_another, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ANOTHER_WORKS


@pytest.mark.parametrize("number", [1, 2])
def test_it_needs_two_files_of_the_product_and_each_of_them(with_another: Path, tmp_path: Path, number: int) -> None:
    files = re.findall(r"(?m)^\d+\. `(vfagent/[\w/.]+)`(?!.*: if)", RECIPES["vf-attribute"])
    assert len(files) == 2
    needed = files[number - 1]
    shutil.copytree(with_another, tmp_path / "tree")
    shutil.copy(ROOT / needed, tmp_path / "tree" / needed)
    argv = [sys.executable, "-c", TRIAL]
    done = subprocess.run(argv, cwd=tmp_path / "tree", capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() != ANOTHER_WORKS, needed


def test_every_setting_of_a_vf_is_an_attribute_that_a_driver_can_refuse() -> None:
    assert set(VfSettings.__dataclass_fields__) <= {str(attribute) for attribute in Attribute}


def test_the_recipe_of_a_step_names_each_file_that_has_to_know_all_steps() -> None:
    files = {path for path, tree in modules().items() for _ in matches_over_steps(tree)}
    assert len(files) >= 4
    assert files <= paths_of("step")


def test_each_doctor_check_is_where_the_recipe_says() -> None:
    faults = (ROOT / "tests/unit/doctor/faults.py").read_text()
    assert len(CHECKS) > 30
    assert faults
    none_of([check.__name__ for check in CHECKS if not check.__module__.startswith("vfagent.doctor.checks.")])


def test_each_metric_is_where_the_recipe_says() -> None:
    page, manual = (
        (ROOT / "tests/unit/metrics/page.txt").read_text(),
        (ROOT / "packaging/man/vfagent-metrics.7.md").read_text().replace("\\_", "_"),
    )
    assert len(FAMILIES) > 40
    none_of([family.name for family in FAMILIES if family.name not in page or family.name not in manual])


def test_the_commands_of_a_reference_restore_the_manual(tmp_path: Path) -> None:
    page = Path("packaging/man/vfagent.toml.5.md")
    current = (ROOT / page).read_text()
    before, begin, rest = current.partition(BEGIN)
    old = before + begin + END + rest.partition(END)[2]
    (tmp_path / page).parent.mkdir(parents=True)
    (tmp_path / page).write_text(old)
    (tmp_path / "vfagent").symlink_to(ROOT / "vfagent")
    starts = ("page=packaging/man/", "python3 -m vfagent.policy.document")
    script = "\n".join(command_of("HACKING.md", start) for start in starts)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(["sh", "-ec", script], cwd=tmp_path, check=True, env=os.environ | {"PATH": path})
    assert (tmp_path / page).read_text() == current != old
