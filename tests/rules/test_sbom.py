# SPDX-License-Identifier: Apache-2.0
"""The software bill of materials names what the Debian package and pyproject.toml require, and nothing else."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.rules.project import ROOT, none_of
from tests.rules.test_packages import CONTROL, PROJECT
from vfagent import __version__

FIELDS = {"Depends": "required", "Recommends": "optional", "Suggests": "optional"}


def made(folder: Path) -> bytes:
    subprocess.run(["make", "--silent", "sbom", f"BUILD={folder}"], cwd=ROOT, check=True)
    return (folder / f"vfagent-{__version__}.cdx.json").read_bytes()


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return json.loads(made(tmp_path_factory.mktemp("sbom")))


def test_the_same_tree_gives_the_same_text(tmp_path: Path) -> None:
    assert made(tmp_path / "first") == made(tmp_path / "again")


def test_it_is_of_this_version_with_its_licence(bill: Any) -> None:
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    component = bill["metadata"]["component"]
    assert (component["name"], component["version"]) == ("vfagent", __version__)
    assert component["licenses"] == [{"license": {"id": "Apache-2.0"}}]


def test_it_lists_the_packages_that_debian_installs(bill: Any) -> None:
    binary = CONTROL.partition("\nPackage: vfagent\n")[2]
    wanted = set()
    for field, scope in FIELDS.items():
        (text,) = re.findall(rf"(?m)^{field}:\n((?: .*\n)+)", binary)
        lines = (line.strip(" ,") for line in text.splitlines() if "$" not in line)
        wanted |= {(line.split()[0], scope, *re.findall(r"\((.*)\)", line)) for line in lines}
    assert len(wanted) > 12
    assert wanted == {
        (entry["name"], entry["scope"], *values(entry, "vfagent:versions")) for entry in bill["components"]
    }


def values(component: Any, name: str) -> list[str]:
    return [entry["value"] for entry in component.get("properties", ()) if entry["name"] == name]


def test_each_python_requirement_is_a_package_of_debian(bill: Any) -> None:
    named = [text for entry in bill["components"] for text in values(entry, "vfagent:python-requirement")]
    assert sorted(named) == sorted(PROJECT["dependencies"])


def test_each_component_has_a_reference_of_its_own_and_is_needed(bill: Any) -> None:
    refs = [entry["bom-ref"] for entry in bill["components"]]
    assert len(set(refs)) == len(refs)
    none_of([entry["name"] for entry in bill["components"] if entry["purl"] != f"pkg:deb/debian/{entry['name']}"])
    main, *others = bill["dependencies"]
    assert main == {"ref": bill["metadata"]["component"]["bom-ref"], "dependsOn": refs}
    assert [entry["ref"] for entry in others] == refs
