# SPDX-License-Identifier: Apache-2.0
"""Each fault, and what `doctor` says of it: `pytest tests/unit/doctor --regenerate` writes the texts anew."""

import json
from pathlib import Path

import pytest

from tests.host.tree import put
from tests.unit.doctor.faults import FAULTS
from tests.unit.doctor.hosts import PF, healthy
from vfagent.cli import main

CASES = Path(__file__).parent / "cases"


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_told_with_what_to_do(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], pytestconfig: pytest.Config
) -> None:
    tree = healthy(tmp_path)
    FAULTS[name](tree)
    status = main(["doctor", "--root", str(tree.root)])
    said = capsys.readouterr()
    found = f"{said.out}exit {status}\n".replace(str(tmp_path), "ROOT")
    golden = CASES / f"{name}.txt"
    if pytestconfig.getoption("--regenerate", default=False):
        golden.write_text(found)
    assert said.err == ""
    assert found == golden.read_text()


def test_in_json_a_finding_has_a_word_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = healthy(tmp_path)
    FAULTS["interrupts_are_not_remapped"](tree)
    assert main(["doctor", "--json", "--root", str(tree.root)]) == 1
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"findings", "unseen"}
    (finding,) = found["findings"]
    assert set(finding) == {"check", "severity", "object", "found", "follows", "advice"}
    assert (finding["check"], finding["severity"]) == ("interrupts-not-remapped", "error")


def test_control_characters_of_others_do_not_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = healthy(tmp_path)
    put(tree.root / "etc/tmpfiles.d/x.conf", f"w /sys/bus/pci/devices/{PF}/sriov_numvfs - - - - \x1b[2J4\n")
    assert main(["doctor", "--root", str(tree.root)]) == 1
    assert "\\x1b[2J" in capsys.readouterr().out


def test_no_case_is_left_over() -> None:
    assert {path.stem for path in CASES.iterdir()} == set(FAULTS)
