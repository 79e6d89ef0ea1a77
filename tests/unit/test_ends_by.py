# SPDX-License-Identifier: Apache-2.0
"""A walk of all phases of PFs and guests: each is final, or has an event or a time that ends it, in words."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.unit.states import pf_state
from vfagent.guests.spec.boot import Boot, Loader
from vfagent.guests.spec.placement import Placement
from vfagent.guests.state import GuestState, Job
from vfagent.model.desired import DesiredPf
from vfagent.model.driver_state import DriverState
from vfagent.model.ends_by import EndsBy, GuestEndsBy
from vfagent.model.guest_unit import FoundUnit
from vfagent.model.inventory import Netdev, Pf
from vfagent.model.numvfs_lock import KernelBusy
from vfagent.model.pci import PciAddress
from vfagent.model.status import MOST_ATTEMPTS, GuestPhase, Phase
from vfagent.model.vf_settings import Attribute
from vfagent.plan.no_netdev import netdev_may_come
from vfagent.plan.planner import UDEV_NOT_DONE, Plan, plan_pf
from vfagent.plan.steps import SetNumvfs
from vfagent.plan.vf import Deferred, Planned, Problem
from vfagent.policy.types import GuestRule
from vfagent.reconcile.ends_by import ends_by
from vfagent.reconcile.pf_state import PfState, Work
from vfagent.reconcile.reports import Failure, StepStarted
from vfagent.reconcile.rounds import Suspended
from vfagent.store.guest_records import Record
from vfagent.store.policy_files import load_files

ADDRESS = PciAddress("0000:01:00.0")
DESIRED = DesiredPf(ADDRESS, "storage", 2, None, ())
STEP = SetNumvfs(ADDRESS, 2)
PLANNED = Planned(STEP, "found 0 VFs")
NIC = Pf(ADDRESS, "igb", "0x8086", "0x10c9", "0x020000", 8, autoprobe=False)
NETDEV = Netdev("ens1", 2, "00:1b:21:00:00:01", None, 1500, admin_up=True)
FAILURE = Failure("set_numvfs", "x")
FINAL = {Phase.CONVERGED, Phase.UNMANAGED}


def state(**facts: Any) -> PfState:
    return pf_state(ADDRESS, **{"pf": NIC, "desired": DESIRED, **facts})


def waiting(pf: Pf, text: str = "x") -> PfState:
    return state(pf=pf, plan=Plan(waiting=(text,)))


NOT_ISOLATED = Plan(problems=(Problem("x", 0, "vlan"),))
WALK = (
    (state(known=False), Phase.UNKNOWN, EndsBy.OBSERVED),
    (state(known=False, suspended=Suspended()), Phase.FAILED, EndsBy.CHANGE),
    (state(known=False, pf=None, plan=Plan(waiting=(UDEV_NOT_DONE,))), Phase.WAITING, EndsBy.UDEV),
    (state(desired=None), Phase.UNMANAGED, None),
    (state(desired=None, rule_pending=True, pf=replace(NIC, netdev_pending=True)), Phase.WAITING, EndsBy.NETDEV),
    (
        state(desired=None, rule_pending=True, pf=replace(NIC, driver=None, initialized=False)),
        Phase.WAITING,
        EndsBy.UDEV,
    ),
    (state(kernel_busy=KernelBusy("x", hangs=True)), Phase.WAITING, EndsBy.TURN),
    (state(outdated=True), Phase.CONVERGING, EndsBy.STEPS),
    (state(running={STEP.id: StepStarted(STEP, "x", 0.0)}), Phase.CONVERGING, EndsBy.STEPS),
    (state(plan=Plan(((((PLANNED,)),),))), Phase.CONVERGING, EndsBy.STEPS),
    (state(failures=(FAILURE,), attempts=1), Phase.CONVERGING, EndsBy.RETRY),
    (state(), Phase.CONVERGED, None),
    (state(plan=Plan(deferred=(Deferred(STEP, "x", "y"),))), Phase.DEFERRED, EndsBy.USER),
    (state(suspended=Suspended((PLANNED,)), failures=(FAILURE,)), Phase.FAILED, EndsBy.CHANGE),
    (state(plan=Plan(problems=(Problem("x"),))), Phase.FAILED, EndsBy.CHANGE),
    (
        state(plan=NOT_ISOLATED, driver_state=DriverState(unsupported={Attribute.VLAN: "x"})),
        Phase.FAILED,
        EndsBy.REFUSED,
    ),
    (state(work=Work.STUCK), Phase.STUCK, EndsBy.KERNEL),
    (state(released=True), Phase.RELEASED, EndsBy.GIVEN),
    (waiting(replace(NIC, unobserved="x")), Phase.WAITING, EndsBy.READABLE),
    (waiting(replace(NIC, driver=None)), Phase.WAITING, EndsBy.DRIVER),
    (waiting(replace(NIC, driver=None, initialized=False)), Phase.WAITING, EndsBy.UDEV),
    (waiting(replace(NIC, driver="vfio-pci")), Phase.WAITING, EndsBy.OTHER_DRIVER),
    (waiting(replace(NIC, driver="igb_uio")), Phase.WAITING, EndsBy.OTHER_DRIVER),
    (waiting(replace(NIC, netdev_away=True)), Phase.WAITING, EndsBy.NETDEV_BACK),
    (waiting(replace(NIC, netdev_pending=True)), Phase.WAITING, EndsBy.NETDEV),
    (waiting(replace(NIC, netdev=replace(NETDEV, initialized=False))), Phase.WAITING, EndsBy.UDEV),
    (waiting(replace(NIC, netdev=NETDEV), "bridge br0 does not exist"), Phase.WAITING, EndsBy.LINK),
)


@pytest.mark.parametrize(("pf", "phase", "expected"), WALK, ids=[f"{phase} {end}" for _, phase, end in WALK])
def test_a_phase_of_a_pf_is_final_or_says_what_ends_it(pf: PfState, phase: Phase, expected: EndsBy | None) -> None:
    assert (pf.phase, ends_by(pf)) == (phase, expected)
    assert (expected is None) == (phase in FINAL)


def test_the_walk_has_each_phase_of_a_pf_and_each_event() -> None:
    assert {phase for _, phase, _ in WALK} == set(Phase)
    assert {end for _, _, end in WALK if end} == set(EndsBy)


def any_pf() -> Iterator[Pf]:
    """Each way in which a PF may be incomplete."""
    drivers = (None, "igb", "cxgb4", "pci-pf-stub", "vfio-pci", "igb_uio", "nvme")
    netdevs = (None, NETDEV, replace(NETDEV, initialized=False), replace(NETDEV, carrier=False))
    kinds = ("0x020000", "0x020700", "0x010802")
    for driver, netdev, kind, away, known in product(drivers, netdevs, kinds, (False, True), (False, True)):
        pf = replace(NIC, driver=driver, netdev=netdev, pci_class=kind, netdev_away=away and not netdev)
        pf = replace(pf, initialized=known, unobserved=None if known or driver else "ens1: cannot read the link")
        yield replace(pf, netdev_pending=netdev_may_come(pf))


def test_whatever_the_plan_waits_for_has_an_event_of_its_own() -> None:
    """A wait that none of the specific events ends would be one of an interface, which must exist."""
    seen = set()
    for pf in any_pf():
        waits = state(pf=pf, plan=plan_pf(DESIRED, pf, DriverState()))
        if waits.plan.waiting:
            seen.add(end := ends_by(waits))
            assert end is not EndsBy.LINK, pf
    assert seen == {
        EndsBy.READABLE,
        EndsBy.DRIVER,
        EndsBy.UDEV,
        EndsBy.OTHER_DRIVER,
        EndsBy.NETDEV_BACK,
        EndsBy.NETDEV,
    }


@pytest.fixture
def guest(tmp_path: Path) -> GuestState:
    """It is to start, and nothing keeps it from it."""
    file = tmp_path / "policy.toml"
    file.write_text(
        '[[pf]]\nname = "s"\nmatch = { driver = "igb" }\nvfs = 1\n[[pf.vf]]\ndriver = "vfio-pci"\n'
        '[[guest]]\nname = "x"\nvfs = ["s:0"]\ncpus = 1\nmemory = "1G"\n[guest.ipxe]\naddress = "dhcp"\n'
        'sanboot = "iscsi:192.0.2.1::::iqn.2016-01.com.example:x"\n'
    )
    (rule,) = load_files([file]).guest
    ready = GuestState("x")
    ready.update(Placement(rule), Boot(Loader.IMAGE))
    return ready


def unit(active: str, rule: str = "") -> FoundUnit:
    return FoundUnit("x", active, "", "signal", 5, (), rule)


GUESTS: tuple[tuple[dict[str, object], GuestPhase, GuestEndsBy | None], ...] = (
    ({}, GuestPhase.WAITING, GuestEndsBy.TURN),
    ({"pending": "its ROM is built"}, GuestPhase.WAITING, GuestEndsBy.PREPARED),
    ({"placement": None}, GuestPhase.WAITING, GuestEndsBy.VF),
    ({"placement": Placement(GuestRule(name="x"), absent_bridge="br0")}, GuestPhase.WAITING, GuestEndsBy.BRIDGE),
    ({"error": "x", "attempts": 1}, GuestPhase.WAITING, GuestEndsBy.RETRY),
    ({"job": Job.START}, GuestPhase.STARTING, GuestEndsBy.JOB),
    ({"unit": unit("activating")}, GuestPhase.STARTING, GuestEndsBy.JOB),
    ({"unit": unit("active")}, GuestPhase.RUNNING, None),
    ({"unit": unit("active"), "paused": (5, "io-error")}, GuestPhase.PAUSED, GuestEndsBy.AGAIN_BY_HAND),
    ({"job": Job.STOP}, GuestPhase.STOPPING, GuestEndsBy.JOB),
    ({"unit": unit("deactivating")}, GuestPhase.STOPPING, GuestEndsBy.JOB),
    ({"record": Record("{digest}", "it was stopped by hand")}, GuestPhase.STOPPED, GuestEndsBy.BY_HAND),
    ({"unit": unit("failed", "{digest}")}, GuestPhase.FAILED, GuestEndsBy.BY_HAND),
    ({"error": "x", "attempts": MOST_ATTEMPTS}, GuestPhase.FAILED, GuestEndsBy.BY_HAND),
    ({"missing": "x", "misses": MOST_ATTEMPTS}, GuestPhase.WAITING, GuestEndsBy.FILE),
    ({"before": "nas"}, GuestPhase.WAITING, GuestEndsBy.GUEST),
    ({"boot": Boot(Loader.IMAGE, problem="x")}, GuestPhase.FAILED, GuestEndsBy.CHANGE),
)


@pytest.mark.parametrize(
    ("facts", "phase", "expected"), GUESTS, ids=[f"{phase} {list(facts)}" for facts, phase, _ in GUESTS]
)
def test_a_phase_of_a_guest_is_final_or_says_what_ends_it(
    guest: GuestState, facts: dict[str, object], phase: GuestPhase, expected: GuestEndsBy | None
) -> None:
    for name, value in facts.items():
        digest = guest.digest
        value = replace(value, rule=digest) if isinstance(value, Record | FoundUnit) and value.rule else value
        setattr(guest, name, value)
    status = guest.status()
    assert (status.phase, status.until) == (phase, expected)
    assert (expected is None) == (phase is GuestPhase.RUNNING)


def test_the_walk_has_each_phase_of_a_guest_and_each_event() -> None:
    assert {phase for _, phase, _ in GUESTS} == set(GuestPhase)
    assert {end for _, _, end in GUESTS if end} == set(GuestEndsBy)
