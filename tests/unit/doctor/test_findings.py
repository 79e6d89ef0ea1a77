# SPDX-License-Identifier: Apache-2.0
"""Each fault, and what `doctor` says of it: `pytest tests/unit/doctor --regenerate` writes the texts anew."""

import ast
import json
from pathlib import Path

import pytest

from tests.host.tree import put
from tests.rules.project import modules
from tests.unit.doctor.faults import FAULTS
from tests.unit.doctor.hosts import PF, healthy
from vfagent.cli.doctor import diagnosis_lines
from vfagent.cli.main import main
from vfagent.doctor.checks.kernel_log import KNOWN
from vfagent.doctor.checks.registry import diagnose
from vfagent.doctor.gather import gather_facts

# No file tells these: systemd, permissions, or silence do.
IN_TEST_CHECKS = {
    "service-failed",
    "service-down",
    "service-disabled",
    "pf-stuck",
    "kvm-denied",
    "qemu-old",
    "management-pf",
}
CASES = Path(__file__).parent / "cases"


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_told_with_what_to_do(name: str, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    tree = healthy(tmp_path)
    FAULTS[name](tree)
    found = diagnose(gather_facts(tree.root))
    words = " ".join(dict.fromkeys(finding.check for finding in found.findings))
    verdict = "nothing is in the way" if found.healthy else "something is in the way"
    text = "\n".join([*diagnosis_lines(found), f"{verdict}: {words}", ""]).replace(str(tmp_path), "ROOT")
    golden = CASES / f"{name}.txt"
    if pytestconfig.getoption("--regenerate", default=False):
        golden.write_text(text)
    assert text == golden.read_text()


def test_in_json_a_finding_has_a_word_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = healthy(tmp_path)
    FAULTS["interrupts_are_not_remapped"](tree)
    assert main(["doctor", "--json", "--root", str(tree.root)]) == 1
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"findings", "not_checked"}
    (finding,) = found["findings"]
    assert set(finding) == {"check", "severity", "object", "observed", "consequence", "advice"}
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


def test_every_finding_has_a_fault_that_shows_it() -> None:
    shown = {word for path in CASES.iterdir() for word in path.read_text().splitlines()[-1].split(": ")[1].split()}
    assert _words() - shown - IN_TEST_CHECKS == set()


def _words() -> set[str]:
    """The first word of every Finding, as the source has it, and those of the kernel's log."""
    calls = [node for tree in modules().values() for node in ast.walk(tree) if isinstance(node, ast.Call)]
    firsts = [call.args[0] for call in calls if getattr(call.func, "id", "") == "Finding" and call.args]
    constants = [node for first in firsts for node in ast.walk(first) if isinstance(node, ast.Constant)]
    return {str(node.value) for node in constants} | {kind.check for kind in KNOWN}
