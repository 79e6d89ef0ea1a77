# SPDX-License-Identifier: Apache-2.0
"""`init` on each recorded host: with the policy that it writes, vfagent changes nothing there."""

import json
from pathlib import Path

import pytest

from tests.unit.plan.test_cases import CASES, IDENTITY, _driver_state
from vfagent.cli.init import policy_lines
from vfagent.model.codec import decode
from vfagent.model.desired import driver_word
from vfagent.model.inventory import Inventory, Pf
from vfagent.model.vf_settings import TABLE, Vlan, VlanProtocol
from vfagent.plan.adopt import Draft, adopt
from vfagent.plan.planner import Plan, plan_pf
from vfagent.plan.vf import believed
from vfagent.policy.match import desired_pf
from vfagent.policy.types import Policy
from vfagent.store.policy_files import load_text


def _inventory(case: Path) -> Inventory:
    return decode(Inventory, json.loads((case / "inventory.json").read_text()))


def _plan(case: Path, policy: Policy, pf: Pf) -> Plan:
    desired = desired_pf(policy, pf, IDENTITY)
    return plan_pf(desired, pf, believed(_driver_state(case, pf), pf)) if desired else Plan()


def _drafts(case: Path) -> tuple[Draft, ...]:
    return adopt(_inventory(case).pfs, IDENTITY, {}, lambda policy, pf: _plan(case, policy, pf))


def _text(drafts: tuple[Draft, ...]) -> str:
    return "\n".join(policy_lines(drafts)) + "\n"


DRAFTS = [(case, draft) for case in CASES for draft in _drafts(case)]
NAMES = [f"{case.name} {draft.pf.address}" for case, draft in DRAFTS]
WHOLE = [draft for _, draft in DRAFTS if draft.adopted and not draft.comments]


@pytest.mark.parametrize(("case", "draft"), DRAFTS, ids=NAMES)
def test_the_plan_after_init_is_empty(case: Path, draft: Draft) -> None:
    policy = load_text("init", _text(_drafts(case)))
    plan = _plan(case, policy, draft.pf)
    assert plan.settled, plan
    rule = desired_pf(policy, draft.pf, IDENTITY)
    assert (rule is not None) == draft.adopted
    if rule is None:
        assert draft.comments
    else:
        assert rule.numvfs == len(draft.pf.vfs)


def test_most_recorded_hosts_with_vfs_are_adopted_whole() -> None:
    assert len(WHOLE) >= 60


@pytest.mark.parametrize("draft", WHOLE, ids=lambda draft: draft.pf.address)
def test_a_rule_without_a_comment_has_all_that_the_host_shows(draft: Draft) -> None:
    wanted = desired_pf(load_text("init", _text((draft,))), draft.pf, IDENTITY)
    assert wanted is not None
    for vf, rule in zip(draft.pf.vfs, wanted.vfs, strict=True):
        assert rule.driver == ("keep" if vf.driver_override and not vf.driver else driver_word(vf))
        for name, row in TABLE.items():
            shown = getattr(vf.settings, name) if vf.settings else None
            assert shown in (None, row.new, Vlan(0, 0, VlanProtocol.DOT1AD), getattr(rule.settings, name))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_rule_that_is_a_comment_is_valid_without_its_marks(case: Path) -> None:
    lines = _text(_drafts(case)).splitlines()
    keys = [line.removeprefix("# ") for line in lines if line.startswith(("# [[", "# ")) and _is_toml(line[2:])]
    live = [line for line in lines if not line.startswith("#")]
    load_text("init", "\n".join([*live, *keys]))


def _is_toml(line: str) -> bool:
    return line.startswith("[[") or (" = " in line and line.split(" = ")[0].isidentifier())
