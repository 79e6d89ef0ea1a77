# SPDX-License-Identifier: Apache-2.0
"""The documents are true: their policies are valid, their commands and tests exist."""

import re
from pathlib import Path

import pytest

from tests.rules.project import ROOT, modules, none_of
from vfagent.cli.main import VERBS
from vfagent.model.evidence import Evidence
from vfagent.model.status import FORMAT
from vfagent.policy.types import Policy
from vfagent.store.policy_files import load_files

DOCUMENTS = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "packaging").rglob("*.md"))]
MANUAL = ROOT / "packaging/man/vfagent.toml.5.md"
LINK = re.compile(r"\]\(([^)#]+)\)")


def policies() -> list[tuple[str, str]]:
    texts = [
        (f"{path.relative_to(ROOT)}-{number}", text)
        for path in DOCUMENTS
        for number, text in enumerate(re.findall(r"(?ms)^```toml\n(.*?)^```$", path.read_text()), 1)
    ]
    example = MANUAL.read_text().partition("# EXAMPLE\n")[2]
    return [*texts, (MANUAL.name, "\n".join(line[4:] for line in example.splitlines() if line.startswith("    ")))]


@pytest.mark.parametrize("text", [text for _, text in policies()], ids=[name for name, _ in policies()])
def test_a_policy_in_the_documents_is_valid(text: str, tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(text)
    assert load_files([tmp_path / "policy.toml"]).pf


def test_the_documents_have_policies() -> None:
    assert len(policies()) > 8


def test_every_document_is_in_the_table_of_contents() -> None:
    contents = (ROOT / "docs/README.md").read_text()
    none_of(
        [path.name for path in (ROOT / "docs").glob("*.md") if path.name not in ("README.md", *LINK.findall(contents))]
    )


def test_every_path_in_the_documents_exists() -> None:
    """In back-quotes, from the project's root."""
    path = re.compile(r"`((?:vfagent|tests|packaging|docs|systemd|udev|config)/[\w./-]+\.\w+)`")
    named = [(file, name) for file in DOCUMENTS for name in path.findall(file.read_text())]
    assert len(named) > 40
    none_of([f"{file.relative_to(ROOT)}: {name}" for file, name in named if not (ROOT / name).exists()])


def test_every_command_in_the_documents_exists() -> None:
    """In code, where a command starts with the program's name."""
    code = re.compile(r"(?m)(?:^    |^[a-z]+# |`)vfagent ([a-z]+)")
    named = [(path, verb) for path in DOCUMENTS for verb in code.findall(path.read_text())]
    assert len(named) > 20
    none_of([f"{path.relative_to(ROOT)}: vfagent {verb}" for path, verb in named if verb not in VERBS])


def test_every_test_that_the_documents_name_exists_in_its_tier() -> None:
    rows = [line.split(" | ") for line in (ROOT / "docs/faults.md").read_text().splitlines() if "test_" in line]
    named = [(name, row[2]) for row in rows if len(row) == 4 for name in re.findall(r"test_\w+", row[3])]
    assert len(named) > 60
    tiers = {tier: _tests_of(tier) for tier in ("unit", "model", "host", "lab")}
    none_of([name for name, tier_names in named if not any(name in tiers[tier] for tier in tier_names.split(", "))])


def test_each_row_of_the_threat_model_names_tests_that_exist() -> None:
    lines = [line for line in (ROOT / "docs/threat-model.md").read_text().splitlines() if line.startswith("| ")]
    rows = [line.strip("|").split(" | ") for line in lines[2:]]
    assert len(rows) > 15
    named = [re.findall(r"`([\w/]+\.py)::(\w+)`", row[-1]) for row in rows]
    none_of([f"no test: {row[0]} | {row[1]}" for row, tests in zip(rows, named, strict=True) if not tests])
    tests = [test for tests in named for test in tests]
    none_of([f"tests/{path} has no {name}" for path, name in tests if not _has(ROOT / "tests" / path, name)])


def _has(path: Path, test: str) -> bool:
    return path.is_file() and f"def {test}(" in path.read_text()


def _tests_of(tier: str) -> set[str]:
    texts = (path.read_text() for path in (ROOT / "tests" / tier).rglob("*.py"))
    return {name for text in texts for name in re.findall(r"def (test_\w+)", text)}


@pytest.mark.parametrize("name", ["README.md", "docs/promises.md", "packaging/man/vfagent.8.md"])
def test_each_kind_of_evidence_that_a_vf_is_in_use_is_documented(name: str) -> None:
    entries = re.findall(r"(?m)^(?: *- |\| )(.*?)(?:;.*| \|.*|)$", (ROOT / name).read_text())
    first, *_, last = Evidence
    assert entries[entries.index(first) : entries.index(last) + 1] == list(Evidence)


def test_the_documents_name_the_state_files_that_the_code_has() -> None:
    design = (ROOT / "DESIGN.md").read_text().partition("## The files\n")[2].partition("\n## ")[0]
    place = r"(?:run|var/lib)/vfagent/([a-z0-9.-]+[a-z0-9])"
    code = {name for path in modules() for name in re.findall(place, (ROOT / path).read_text())}
    assert len(code) > 10
    none_of([f"DESIGN.md has no {name}" for name in sorted(code) if f"`{name}" not in design])
    files = (ROOT / "packaging/man/vfagent.8.md").read_text().partition("# FILES\n")[2]
    terms = re.findall(r"(?m)^(\*/(?:run|var/lib)/vfagent/.*)\n:   ", files)
    name = r"\*(?:/run/vfagent/|/var/lib/vfagent/)?([a-z.-]+)\*"
    manual = {file for term in terms for file in re.findall(name, term)}
    assert len(manual) > 10
    none_of([f"vfagent.8.md names {name}" for name in sorted(manual) if f"`{name}" not in design])


def test_the_promise_about_versions_names_the_formats_that_there_are() -> None:
    promise = (ROOT / "docs/upgrade.md").read_text().partition("## The promise\n")[2]
    assert f"`version = {Policy().version}`" in promise
    assert f"`format` is {FORMAT}" in promise
