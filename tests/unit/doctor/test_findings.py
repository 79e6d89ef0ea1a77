# SPDX-License-Identifier: Apache-2.0
"""Each fault and its findings. `pytest tests/unit/doctor --regenerate` rewrites the texts."""

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
from vfagent.doctor.checks.kernel_log import KNOWN_LINES
from vfagent.doctor.checks.registry import diagnose
from vfagent.doctor.gather import gather_facts

# Findings from unit states, permissions and stuck calls, which a copied tree does not have.
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
def test_each_fault_is_reported_with_its_fix(name: str, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    tree = healthy(tmp_path)
    FAULTS[name](tree)
    diagnosis = diagnose(gather_facts(tree.root))
    checks = " ".join(dict.fromkeys(finding.check for finding in diagnosis.findings))
    verdict = "healthy" if diagnosis.healthy else "not healthy"
    text = "\n".join([*diagnosis_lines(diagnosis), f"{verdict}: {checks}", ""]).replace(str(tmp_path), "ROOT")
    golden = CASES / f"{name}.txt"
    if pytestconfig.getoption("--regenerate", default=False):
        golden.write_text(text)
    assert text == golden.read_text()


def test_the_json_of_a_finding_has_an_identifier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = healthy(tmp_path)
    FAULTS["interrupts_are_not_remapped"](tree)
    assert main(["doctor", "--json", "--root", str(tree.root)]) == 1
    diagnosis = json.loads(capsys.readouterr().out)
    assert set(diagnosis) == {"healthy", "findings", "not_checked", "format"}
    (finding,) = diagnosis["findings"]
    assert set(finding) == {"check", "severity", "object", "observed", "consequence", "advice"}
    assert (finding["check"], finding["severity"]) == ("interrupts-not-remapped", "error")


def test_control_characters_in_a_file_do_not_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = healthy(tmp_path)
    put(tree.root / "etc/tmpfiles.d/x.conf", f"w /sys/bus/pci/devices/{PF}/sriov_numvfs - - - - \x1b[2J4\n")
    assert main(["doctor", "--root", str(tree.root)]) == 1
    assert "\\x1b[2J" in capsys.readouterr().out


def test_each_text_has_a_fault() -> None:
    assert {path.stem for path in CASES.iterdir()} == set(FAULTS)


def test_each_finding_has_a_fault() -> None:
    shown = {check for path in CASES.iterdir() for check in path.read_text().splitlines()[-1].split(": ")[1].split()}
    assert _checks() - shown - IN_TEST_CHECKS == set()


def _checks() -> set[str]:
    """The `check` of every Finding in the source, and those of the kernel log lines."""
    calls = [node for tree in modules().values() for node in ast.walk(tree) if isinstance(node, ast.Call)]
    firsts = [call.args[0] for call in calls if getattr(call.func, "id", "") == "Finding" and call.args]
    constants = [node for first in firsts for node in ast.walk(first) if isinstance(node, ast.Constant)]
    return {str(node.value) for node in constants} | {kind.check for kind in KNOWN_LINES}
