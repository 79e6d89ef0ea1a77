# SPDX-License-Identifier: Apache-2.0
"""The phase and the differences of a VF, from the state of its PF."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.unit.metrics import views
from tests.unit.states import observe
from vfagent.model.status import Phase
from vfagent.model.vf_settings import VfSettings
from vfagent.plan.planner import Plan
from vfagent.plan.steps import ConfigureVf, SetNumvfs
from vfagent.plan.vf import Deferred, Planned, Problem
from vfagent.reconcile.pf_state import PfState, Retries, Work
from vfagent.reconcile.reports import Failure, StepEnded, StepStarted
from vfagent.reconcile.rounds import Suspended
from vfagent.reconcile.status import pf_status


def phases(state: PfState) -> list[Phase]:
    return [vf.phase for vf in pf_status(state).vfs]


def state(plan: Plan) -> PfState:
    pf = views.converging()
    observe(pf, plan=plan)
    return pf


def planned(index: int) -> Planned:
    return Planned(ConfigureVf(views.STORAGE, 2, index, VfSettings(trust=True)), "found off")


def one_group(*steps: Planned) -> Plan:
    return Plan(batches=((steps,),))


def test_each_vf_has_its_own_phase() -> None:
    assert phases(views.converging()) == [Phase.DEFERRED, Phase.CONVERGING, Phase.CONVERGED, Phase.CONVERGING]


def test_vfs_of_a_converged_pf_are_converged() -> None:
    assert set(phases(state(Plan()))) == {Phase.CONVERGED}


def test_a_suspended_step_fails_only_its_vf() -> None:
    pf = state(one_group(planned(1)))
    pf.retries = Retries((Failure("x", "x"),), suspended=Suspended(pf.plan.steps))
    assert phases(pf) == [Phase.CONVERGED, Phase.FAILED, Phase.CONVERGED, Phase.CONVERGED]


def test_a_problem_of_a_vf_fails_only_that_vf() -> None:
    vf_phases = phases(state(Plan(problems=(Problem("shares IOMMU group 4 with 0000:00:01.0", vf=2),))))
    assert vf_phases == [Phase.CONVERGED, Phase.CONVERGED, Phase.FAILED, Phase.CONVERGED]


def test_a_problem_of_the_pf_fails_all_its_vfs() -> None:
    text = "9 VFs are wanted, and 8 are possible"
    pf = state(Plan(problems=(Problem(text),)))
    assert pf.desired
    observe(pf, desired=replace(pf.desired, problem=text))
    assert set(phases(pf)) == {Phase.FAILED}


@pytest.mark.parametrize("name", ["vlan10", "vf0"])
def test_a_problem_of_a_vlan_interface_fails_no_vf_whatever_its_name(name: str) -> None:
    problem = Problem(f"{name}: exists as a dummy; remove it, or choose another name")
    assert set(phases(state(Plan(problems=(problem,))))) == {Phase.CONVERGED}


@pytest.mark.parametrize(
    ("change", "phase"),
    [
        (lambda pf: setattr(pf, "work", Work.STUCK), Phase.STUCK),
        (lambda pf: setattr(pf, "released", True), Phase.RELEASED),
        (lambda pf: observe(pf, desired=None), Phase.UNMANAGED),
        (lambda pf: observe(pf, plan=Plan(waiting=("no driver",))), Phase.WAITING),
    ],
)
def test_a_phase_of_the_whole_pf_is_that_of_its_vfs(change: Callable[[PfState], None], phase: Phase) -> None:
    pf = views.converging()
    change(pf)
    assert set(phases(pf)) == {phase}


def test_a_running_step_keeps_its_vf_converging() -> None:
    pf = state(Plan())
    pf.take(StepStarted(planned(0).step, "found off", 1.0))
    assert phases(pf)[0] is Phase.CONVERGING


def test_differences_include_deferred_steps() -> None:
    status = pf_status(views.converging())
    assert [vf.differs for vf in status.vfs] == [("link_state",), ("trust", "vlan"), (), ("driver",)]
    assert status.differs == ("mtu",)
    deferred = Deferred(SetNumvfs(views.STORAGE, 6), "found 4 VFs", "vf0: in use")
    assert pf_status(state(Plan(deferred=(deferred,)))).differs == ("numvfs",)


def test_a_vf_set_without_what_its_driver_refuses_is_done() -> None:
    """A message for several VFs is refused for one attribute; then each VF is set alone and without it."""
    pf = state(one_group(planned(1)))
    planned_step = pf.plan.steps[0].step
    assert isinstance(planned_step, ConfigureVf)
    reduced = replace(planned_step, settings=VfSettings(trust=True))
    for step in (planned_step, reduced):
        pf.take(StepStarted(step, "found off", 1.0))
    assert len(pf.progress.running) == 1
    pf.take(StepEnded(reduced, 2.0))
    assert pf.progress.running == {}
    assert pf_status(pf).running_steps == ()


def test_what_remains_of_a_plan_is_what_failed_or_was_not_begun() -> None:
    pf = state(one_group(planned(0), planned(1), planned(2)))
    steps = [item.step for item in pf.plan.steps]
    for number, step in enumerate(steps[:2]):
        assert isinstance(step, ConfigureVf)
        reduced = replace(step, settings=VfSettings(trust=True))
        pf.take(StepStarted(reduced, "found off", 1.0))
        pf.take(StepEnded(reduced, 2.0, Failure("configure_vf", "EBUSY") if number else None))
    assert [item.step for item in pf.remaining] == steps[1:]
