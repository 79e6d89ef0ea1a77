# SPDX-License-Identifier: Apache-2.0
"""Policy and inventory in, plan out, as texts: `pytest tests/unit/plan --regenerate` rewrites the plans.

The inventory of a case is what `vfagent list --json` prints, without what is not needed; driver-state.json is its
driver state.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from vfagent.cli.plan import lines_or_why_none, plan_lines
from vfagent.model.codec import decode
from vfagent.model.driver_state import DriverState
from vfagent.model.inventory import Inventory, Pf
from vfagent.plan.planner import Plan, plan_pf
from vfagent.plan.vf import ParallelGroup, believed
from vfagent.policy.match import HostIdentity, desired_pf
from vfagent.policy.types import Policy
from vfagent.policy.unused import unused_rules
from vfagent.reconcile.reports import Observed
from vfagent.store.policy_files import load_files

CASES = sorted(path for path in (Path(__file__).parent / "cases").iterdir() if path.is_dir())
IDENTITY = HostIdentity("node1", "0123456789abcdef0123456789abcdef")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_plan_is_the_golden_plan(case: Path, pytestconfig: pytest.Config) -> None:
    plan, golden = _planned(case), case / "plan.txt"
    if pytestconfig.getoption("--regenerate", default=False):
        golden.write_text(plan)
    assert plan == golden.read_text()


def _planned(case: Path) -> str:
    policy = load_files([case / "policy.toml"])
    inventory = decode(Inventory, json.loads((case / "inventory.json").read_text()))
    observations = [_observed(policy, pf, _driver_state(case, pf)) for pf in inventory.pfs]
    pfs = [(observed.pf, observed.desired) for observed in observations if observed.pf]
    lines = [
        *lines_or_why_none(plan_lines(observations), policy, unused_rules(policy.pf, policy, IDENTITY, pfs)),
        *(line for observed in observations for line in _parallel(observed.plan)),
    ]
    return "\n".join(lines) + "\n"


def _driver_state(case: Path, pf: Pf) -> DriverState:
    file = case / "driver-state.json"
    driver_state = decode(DriverState, json.loads(file.read_text())) if file.exists() else DriverState()
    return replace(driver_state, driver=pf.driver, ifindex=pf.netdev.ifindex if pf.netdev else None)


def _observed(policy: Policy, pf: Pf, driver_state: DriverState) -> Observed:
    desired = desired_pf(policy, pf, IDENTITY)
    pf = replace(pf, assume_idle=desired is not None and desired.assume_idle)
    return Observed(1, pf, desired, plan_pf(desired, pf, believed(driver_state, pf)) if desired else Plan())


def _parallel(plan: Plan) -> list[str]:
    """Which steps run in parallel, where not all run one after the other."""
    number, lines = 1, []
    for batch in plan.batches:
        ranges = []
        for group in batch:
            ranges.append(_range(number, group))
            number += len(group)
        if len(ranges) > 1:
            lines.append(f"at once: {' and '.join(ranges)}")
    return lines


def _range(first: int, group: ParallelGroup) -> str:
    last = first + len(group) - 1
    return f"steps {first}-{last}" if last > first else f"step {first}"
