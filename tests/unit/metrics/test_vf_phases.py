# SPDX-License-Identifier: Apache-2.0
"""A VF's phase and what it differs in, from its PF's state."""

from dataclasses import replace

import pytest

from tests.unit.metrics import views
from vfagent.model.status import Phase
from vfagent.model.vf_settings import LinkState, VfSettings
from vfagent.plan.planner import Plan
from vfagent.plan.steps import ConfigureVf, SetNumvfs
from vfagent.plan.vf import Deferred, Planned
from vfagent.reconcile.pf_state import PfState
from vfagent.reconcile.reports import Failure, Finished, StepEnded, StepStarted
from vfagent.reconcile.rounds import Suspended
from vfagent.reconcile.status import pf_status


def phases(state: PfState) -> list[Phase]:
    return [vf.phase for vf in pf_status(state).vfs]


def state(plan: Plan) -> PfState:
    found = views.converging()
    found.plan = plan
    return found


def planned(index: int) -> Planned:
    return Planned(ConfigureVf(views.STORAGE, 2, index, VfSettings(trust=True)), "found off")


def one_chain(*steps: Planned) -> Plan:
    return Plan(batches=((steps,),))


def test_each_vf_has_its_own() -> None:
    assert phases(views.converging()) == [Phase.DEFERRED, Phase.CONVERGING, Phase.CONVERGED, Phase.CONVERGING]


def test_vfs_of_a_converged_pf_are_converged() -> None:
    assert set(phases(state(Plan()))) == {Phase.CONVERGED}


def test_a_step_that_was_given_up_fails_its_vf_alone() -> None:
    found = state(one_chain(planned(1)))
    found.suspended, found.failures = Suspended(found.plan.steps), (Failure("x", "x"),)
    assert phases(found) == [Phase.CONVERGED, Phase.FAILED, Phase.CONVERGED, Phase.CONVERGED]


def test_a_problem_of_a_vf_fails_it_alone() -> None:
    found = phases(state(Plan(problems=("vf2: shares IOMMU group 4 with 0000:00:01.0",))))
    assert found == [Phase.CONVERGED, Phase.CONVERGED, Phase.FAILED, Phase.CONVERGED]


def test_a_problem_of_the_pf_fails_all() -> None:
    text = "9 VFs are wanted, and 8 are possible"
    found = state(Plan(problems=(text,)))
    assert found.desired
    found.desired = replace(found.desired, problem=text)
    assert set(phases(found)) == {Phase.FAILED}


def test_a_problem_of_the_host_s_own_network_fails_no_vf() -> None:
    assert set(phases(state(Plan(problems=("vlan10: is there, made by somebody else",))))) == {Phase.CONVERGED}


@pytest.mark.parametrize(
    ("change", "phase"),
    [
        ({"stuck": True}, Phase.STUCK),
        ({"released": True}, Phase.RELEASED),
        ({"desired": None}, Phase.UNMANAGED),
        ({"plan": Plan(waiting=("no driver",))}, Phase.WAITING),
    ],
)
def test_what_is_said_of_the_pf_as_a_whole_holds_for_its_vfs(change: dict[str, object], phase: Phase) -> None:
    assert set(phases(replace(views.converging(), **change))) == {phase}  # type: ignore[arg-type]


def test_a_step_that_runs_keeps_its_vf_converging() -> None:
    found = state(Plan())
    found.running = {planned(0).step: 1.0}
    assert phases(found)[0] is Phase.CONVERGING


def test_differences_are_the_plan_s_deferred_ones_included() -> None:
    found = pf_status(views.converging())
    assert [vf.differs for vf in found.vfs] == [("link_state",), ("trust", "vlan"), (), ("driver",)]
    assert found.differs == ("mtu",)
    deferred = Deferred(SetNumvfs(views.STORAGE, 6), "found 4 VFs", "vf0: in use")
    assert pf_status(state(Plan(deferred=(deferred,)))).differs == ("numvfs",)


def test_a_look_that_has_ended_leaves_nothing_at_work() -> None:
    """Steps begun together and refused are done singly, without what the driver does not support: as other steps."""
    found = state(Plan())
    for settings in (VfSettings(trust=True, link_state=LinkState.ENABLE), VfSettings(trust=True)):
        found.take(StepStarted(ConfigureVf(views.STORAGE, 2, 1, settings), "found off", 1.0))
    found.take(StepEnded(ConfigureVf(views.STORAGE, 2, 1, VfSettings(trust=True)), 2.0))
    assert phases(found)[1] is Phase.CONVERGING
    found.take(Finished(found.driver_state))
    assert set(phases(found)) == {Phase.CONVERGED}
