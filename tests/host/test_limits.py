# SPDX-License-Identifier: Apache-2.0
"""Where convergence ends: fights, failures that come back, and what cannot even begin."""

import errno
import logging
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.host.fake_kernel import FakeKernel
from tests.host.test_scheduler import NUMVFS, PF, POLICY, VLAN_POLICY, Rig, converge
from vfagent.model.pci import PciAddress
from vfagent.model.status import Phase
from vfagent.model.vf_settings import VfSettings, Vlan
from vfagent.process import worker
from vfagent.reconcile.pf_state import MOST_REPAIRS, PfState
from vfagent.store.policy_files import load

OTHER_VLAN = 77


@pytest.fixture
def kernel_files(tmp_path: Path) -> FakeKernel:
    kernel = FakeKernel(tmp_path)
    kernel.tree.policy(POLICY)
    return kernel


@pytest.fixture
def no_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PfState, "deadline_s", 1e6)


def set_by_hand(kernel: FakeKernel, vlan: int) -> None:
    found = kernel.settings(PF, 0) or VfSettings()
    kernel.keep_settings(PF, 0, replace(found, vlan=Vlan(vlan)))


def vlan_of(kernel: FakeKernel) -> int | None:
    found = kernel.settings(PF, 0)
    return found.vlan.id if found and found.vlan else None


@pytest.mark.usefixtures("no_deadline")
def test_a_fight_with_another_program_ends_and_is_reported(
    kernel_files: FakeKernel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    kernel_files.tree.policy(VLAN_POLICY)
    kernel_files.tree.add_pf(PF, interface="ens1")
    repairs = 0

    async def body(rig: Rig) -> None:
        nonlocal repairs
        await rig.converged(PF)
        while rig.pf().phase is not Phase.FAILED:
            set_by_hand(kernel_files, OTHER_VLAN)
            rig.look(PF)
            await rig.until(lambda: vlan_of(kernel_files) == 10 or rig.pf().phase is Phase.FAILED)
            await rig.until(lambda: not rig.pf().reconciling)
            repairs += 1
            assert repairs < 60
        set_by_hand(kernel_files, OTHER_VLAN)
        await rig.looked_again()
        assert vlan_of(kernel_files) == OTHER_VLAN
        assert "was done ten times in a minute and reverted each time" in rig.pf().failures[0].text
        rig.scheduler.set_policy(load(kernel_files.tree.root))
        await rig.until(lambda: vlan_of(kernel_files) == 10)

    converge(kernel_files, body, speed=20)
    assert repairs > MOST_REPAIRS


def test_a_few_repairs_in_a_row_are_no_fight(kernel_files: FakeKernel) -> None:
    kernel_files.tree.policy(VLAN_POLICY)
    kernel_files.tree.add_pf(PF, interface="ens1")

    async def body(rig: Rig) -> None:
        await rig.converged(PF)
        for _ in range(4):
            set_by_hand(kernel_files, OTHER_VLAN)
            await rig.looked_again()
            assert (vlan_of(kernel_files), rig.pf().phase) == (10, Phase.CONVERGED)

    converge(kernel_files, body)


def test_a_look_for_which_there_is_no_process_is_made_a_little_later(
    kernel_files: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel_files.tree.add_pf(PF)
    real, refused = worker.start, 0

    def start(*args: object, **kwargs: object) -> worker.Worker:
        nonlocal refused
        refused += 1
        if refused == 1:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(worker, "start", start)

    async def body(rig: Rig) -> None:
        rig.look(PF)
        await rig.until(lambda: bool(rig.pf().failures))
        assert "cannot start a worker" in rig.pf().failures[0].text
        await rig.until_phase(Phase.CONVERGED, PF)

    converge(kernel_files, body)


@pytest.mark.usefixtures("no_deadline")
def test_a_look_that_dies_each_time_is_given_up_and_ready_does_not_wait_for_it(kernel_files: FakeKernel) -> None:
    kernel_files.tree.add_pf(PF)
    (kernel_files.tree.device(PF) / "sriov_totalvfs").write_text("nonsense\n")

    async def body(rig: Rig) -> None:
        rig.look(PF)
        await rig.until_phase(Phase.FAILED, PF)
        assert not rig.pf().unfinished(time.monotonic(), udev_busy_at=0.0)
        attempts = rig.pf().attempts
        await rig.idle()
        assert rig.pf().attempts == attempts

    converge(kernel_files, body, speed=200)


@pytest.mark.usefixtures("no_deadline")
def test_a_driver_that_is_loaded_anew_is_tried_again(kernel_files: FakeKernel) -> None:
    kernel_files.tree.add_pf(PF)
    kernel_files.refuse(PF, NUMVFS, errno.ERANGE)

    async def body(rig: Rig) -> None:
        rig.look(PF)
        await rig.until_phase(Phase.FAILED, PF)
        kernel_files.behave(PF, NUMVFS)
        kernel_files.tree.bind(PF, None)
        await rig.looked_again()
        kernel_files.tree.bind(PF, "igb")
        rig.look(PF)
        await rig.until_phase(Phase.CONVERGED, PF)

    converge(kernel_files, body)


def test_until_it_was_looked_at_by_the_new_policy_a_pf_has_not_converged(kernel_files: FakeKernel) -> None:
    kernel_files.tree.add_pf(PF)

    async def body(rig: Rig) -> None:
        await rig.converged(PF)
        rig.scheduler.set_policy(load(kernel_files.tree.root))
        assert rig.pf().phase is Phase.CONVERGING
        await rig.until_phase(Phase.CONVERGED, PF)

    converge(kernel_files, body)


def test_a_pf_that_is_released_in_the_middle_of_a_look_is_not_changed_any_more(kernel_files: FakeKernel) -> None:
    kernel_files.tree.policy(VLAN_POLICY)
    kernel_files.tree.add_pf(PF, interface="ens1")
    kernel_files.slow_down(PF, NUMVFS, 1.0)

    async def body(rig: Rig) -> None:
        rig.look(PF)
        await rig.until(lambda: bool(rig.pf().running))
        rig.state.release(PciAddress(PF))
        with rig.state.to_itself(PciAddress(PF), 10.0):
            made = len(kernel_files.writes())
            await rig.until(lambda: not rig.pf().reconciling)
            assert len(kernel_files.writes()) == made

    converge(kernel_files, body)


def test_a_first_failure_that_is_tried_again_is_no_error_yet(
    kernel_files: FakeKernel, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a card that is pulled out whatever is under way fails."""
    caplog.set_level(logging.INFO)
    kernel_files.tree.add_pf(PF)
    kernel_files.refuse(PF, NUMVFS, errno.EAGAIN, times=2)

    async def body(rig: Rig) -> None:
        rig.look(PF)
        await rig.until_phase(Phase.CONVERGED, PF)

    converge(kernel_files, body)
    logged = [one.levelno for one in caplog.records if "EAGAIN" in one.message]
    assert logged == [logging.INFO, logging.ERROR]


def test_the_events_that_a_card_leaves_behind_do_not_say_again_that_it_is_gone(
    kernel_files: FakeKernel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def body(rig: Rig) -> None:
        rig.look(PF)
        await rig.until(lambda: PF not in rig.scheduler.pfs)

    converge(kernel_files, body)
    assert "gone" not in caplog.text
