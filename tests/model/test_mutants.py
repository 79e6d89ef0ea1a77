# SPDX-License-Identifier: Apache-2.0
"""vfagent with a bug in what protects guests and addresses: the model tests must find each."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.model.budget import NO_SHRINKING

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Mutant:
    file: str
    text: str
    instead: str
    caught_by: str


MUTANTS = {
    "VFs in use are re-created": Mutant(
        "plan/planner.py",
        'return "; ".join(pf_in_use(pf)) or _management_blocker(desired, pf)',
        "return _management_blocker(desired, pf)",
        "test_vf_users.py",
    ),
    "a VF in use is configured all the same": Mutant(
        "plan/vf.py", "use = vf_in_use(vf, pf)", "use = None", "test_vf_users.py"
    ),
    "a step does not check again whether the VF is in use": Mutant(
        "reconcile/execute_bind.py",
        "if not force and (why := vf_in_use(vf, pf)):",
        "if False:",
        "test_vf_users.py",
    ),
    "only vfio-pci is VFIO": Mutant(
        "model/evidence.py",
        'return vfio_dev or (driver or "").replace("_", "-").endswith(VFIO_DRIVER)',
        "return driver == VFIO_DRIVER",
        "test_vf_users.py",
    ),
    "a VF counts as idle where nothing shows whether it is used": Mutant(
        "model/vf_use.py",
        "if shown or vf.netdevs or vf.shown_idle or assume_idle:",
        "if True:",
        "test_vf_users.py",
    ),
    "a mounted file system is not seen": Mutant(
        "reconcile/observe_use.py", "        if point:\n", "        if False:\n", "test_vf_users.py"
    ),
    "a VF is bound before it has its VLAN": Mutant(
        "plan/planner.py", "    if all(needed.empty for needed in bound.values()):", "    if True:", "test_converge.py"
    ),
    "a VF is bound although its VLAN was refused": Mutant(
        "reconcile/parallel.py",
        "if isinstance(step, BindDriver) and self.unset",
        "if False and self.unset",
        "test_converge.py",
    ),
    "refused isolation is a note": Mutant(
        "plan/planner.py", "*absent, *isolation, *rates", "*absent, *rates", "test_isolation.py"
    ),
    "isolation that was asked for is not compared": Mutant(
        "plan/isolation.py", "difference(refused, reported, applied)", "VfSettings()", "test_isolation.py"
    ),
    "nothing is done beyond the horizon": Mutant(
        "reconcile/rounds.py", "MOST_ROUNDS = 6", "MOST_ROUNDS = 1", "test_converge.py"
    ),
    "sriov_numvfs is written out of turn": Mutant(
        "reconcile/parallel.py", "if host.numvfs is None or not counts:", "if True:", "test_one_card.py"
    ),
    "a stuck worker blocks its card's neighbour": Mutant(
        "reconcile/card.py",
        "            self._stick(run, error)\n",
        "            self._stick(run, error)\n            await error.ended\n",
        "test_scheduler.py",
    ),
    "an event during a reconcile is lost": Mutant(
        "reconcile/card.py", "        elif request.dirty:\n", "        elif False:\n", "test_scheduler.py"
    ),
    "a back-off never ends": Mutant(
        "reconcile/card.py", "if attempts >= MOST_ATTEMPTS or not any(", "if not any(", "test_scheduler.py"
    ),
    "a move is not in the journal while it is made": Mutant(
        "reconcile/move_addresses.py", "        host.moves.keep(move)\n", "", "test_network.py"
    ),
    "the source loses an address before the target has it": Mutant(
        "reconcile/move_addresses.py",
        "    for address in _missing(move.addresses, to, host):",
        "    if away is not None:\n        _remove(move, away, host)\n"
        "    for address in _missing(move.addresses, to, host):",
        "test_network.py",
    ),
}


def plant(mutant: Mutant, folder: Path) -> None:
    for name in ("vfagent", "tests/model"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "test_mutants.py"))
    for name in ("pyproject.toml", "tests/__init__.py"):
        shutil.copy(ROOT / name, folder / name)
    file = folder / "vfagent" / mutant.file
    text = file.read_text()
    assert text.count(mutant.text) >= 1, f"{mutant.file} has no such text any more"
    file.write_text(text.replace(mutant.text, mutant.instead))


@pytest.mark.wide
@pytest.mark.parametrize("name", MUTANTS)
def test_a_model_test_fails_with_this_bug(name: str, tmp_path: Path) -> None:
    mutant = MUTANTS[name]
    plant(mutant, tmp_path)
    argv = [sys.executable, "-m", "pytest", "-x", "--no-header", "-p", "no:cacheprovider"]
    argv.append(f"tests/model/{mutant.caught_by}")
    environment = {**os.environ, **NO_SHRINKING, "VFAGENT_MODEL_FACTOR": "1"}
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert f"FAILED tests/model/{mutant.caught_by}" in done.stdout
    assert "AssertionError" in done.stdout
