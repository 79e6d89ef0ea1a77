# SPDX-License-Identifier: Apache-2.0
"""Records about a PF, VF or guest name it in their message and in a field of the journal."""

import logging
from dataclasses import replace

import pytest

from tests.unit.metrics import views
from tests.unit.states import observe
from vfagent.model.vf_settings import VfSettings, Vlan
from vfagent.plan.planner import Plan
from vfagent.plan.steps import ConfigureVf
from vfagent.plan.vf import Deferred, Planned, Problem
from vfagent.reconcile.log import log_observed, log_steps
from vfagent.reconcile.pf_state import EndedStep
from vfagent.reconcile.reports import Observed
from vfagent.systemd.log import for_guest, for_pf, for_policy
from vfagent.systemd.messages import Message

log = logging.getLogger("vfagent.test")
STEP = ConfigureVf(views.STORAGE, 2, 3, VfSettings(trust=True))


def fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name.startswith("VFAGENT_")}


def test_a_record_about_a_pf_a_vf_or_a_guest_has_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    for_pf(log, "0000:3b:00.0", name="0000:3b:00.0 (ens1)").error("reconcile failed: %s", "EBUSY")
    for_pf(log, "0000:3b:00.0", vf=3).error("no IOMMU group")
    for_pf(log, "0000:3b:00.0", vf=3, step="configure_vf").error("set vf3 trust on")
    for_guest(log, "100%").error("failed")
    assert [(record.getMessage(), fields(record)) for record in caplog.records] == [
        ("PF 0000:3b:00.0 (ens1): reconcile failed: EBUSY", {"VFAGENT_PF": "0000:3b:00.0"}),
        ("PF 0000:3b:00.0: VF 3: no IOMMU group", {"VFAGENT_PF": "0000:3b:00.0", "VFAGENT_VF": "3"}),
        (
            "PF 0000:3b:00.0: set vf3 trust on",
            {"VFAGENT_PF": "0000:3b:00.0", "VFAGENT_VF": "3", "VFAGENT_STEP": "configure_vf"},
        ),
        ("guest 100%: failed", {"VFAGENT_GUEST": "100%"}),
    ]


def test_what_a_reconcile_reports_has_the_fields_of_its_object(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    state = views.converging()
    plan = Plan(deferred=(Deferred(STEP, "found off", "vf3: in use"),), problems=(Problem("has no IOMMU group", vf=2),))
    log_observed(state, Observed(1, state.pf, state.desired, plan))
    log_steps(state, [EndedStep(STEP, 1.0, 2.0)])
    of_step = {"VFAGENT_PF": views.STORAGE, "VFAGENT_VF": "3", "VFAGENT_STEP": "configure_vf"}
    assert [fields(record) for record in caplog.records] == [
        of_step,
        {"VFAGENT_PF": views.STORAGE, "VFAGENT_VF": "2"},
        of_step,
    ]


def test_an_event_of_the_catalog_has_its_id(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for_pf(log, "0000:3b:00.0").of(Message.CONVERGED).info("converged")
    for_guest(log, "a").of(Message.GUEST_ENDED).info("ended")
    for_policy(log, Message.POLICY_ACTIVE).info("%s is active", "abc")
    assert [(record.getMessage(), vars(record)["MESSAGE_ID"]) for record in caplog.records] == [
        ("PF 0000:3b:00.0: converged", Message.CONVERGED.value),
        ("guest a: ended", Message.GUEST_ENDED.value),
        ("policy: abc is active", Message.POLICY_ACTIVE.value),
    ]
    assert fields(caplog.records[0]) == {"VFAGENT_PF": "0000:3b:00.0"}


@pytest.mark.parametrize(("vlan", "logged"), [(10, False), (99, True)])
def test_only_what_somebody_changed_is_drift(caplog: pytest.LogCaptureFixture, *, vlan: int, logged: bool) -> None:
    """A refusal is forgotten when the link comes up: the step is planned again, and nobody did anything."""
    state = views.converging()
    assert state.pf is not None
    vfs = tuple(replace(vf, settings=VfSettings(vlan=Vlan(10), trust=False)) for vf in state.pf.vfs)
    observe(state, pf=replace(state.pf, vfs=vfs), plan=Plan())
    state.converged_as = state.desired
    now = replace(state.pf, vfs=tuple(replace(vf, settings=VfSettings(vlan=Vlan(vlan), trust=False)) for vf in vfs))
    step = ConfigureVf(state.pf.address, 2, vfs[0].index, VfSettings(vlan=Vlan(20)))
    plan = Plan(batches=(((Planned(step, "found another"),),),))
    log_observed(state, Observed(1, now, state.desired, plan))
    assert ("drift" in caplog.text) is logged
