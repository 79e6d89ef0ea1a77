# SPDX-License-Identifier: Apache-2.0
"""Limits of retries: fights with other programs, repeated failures, and workers that cannot start."""

import errno
import logging
import os
import time
from dataclasses import replace

import pytest

from tests.host.fake_kernel import FakeKernel
from tests.host.scheduler_rig import NUMVFS, PF, VLAN_POLICY, Rig, converge
from vfagent.model.pci import PciAddress
from vfagent.model.status import Phase
from vfagent.model.vf_settings import VfSettings, Vlan
from vfagent.process import worker
from vfagent.reconcile.pf_state import MOST_REPAIRS
from vfagent.store.policy_files import load

OTHER_VLAN = 77


def set_by_hand(kernel: FakeKernel, vlan: int) -> None:
    settings = kernel.settings(PF, 0) or VfSettings()
    kernel.keep_settings(PF, 0, replace(settings, vlan=Vlan(vlan)))


def vlan_of(kernel: FakeKernel) -> int | None:
    settings = kernel.settings(PF, 0)
    return settings.vlan.id if settings and settings.vlan else None


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
            rig.mark_dirty(PF)
            await rig.until(lambda: vlan_of(kernel_files) == 10 or rig.pf().phase is Phase.FAILED)
            await rig.until(lambda: not rig.pf().reconciling)
            repairs += 1
            assert repairs < 60
        set_by_hand(kernel_files, OTHER_VLAN)
        await rig.reconciled_again()
        assert vlan_of(kernel_files) == OTHER_VLAN
        assert "was done ten times in a minute and reverted each time" in rig.pf().retries.failures[0].text
        rig.scheduler.set_policy(load(kernel_files.tree.root))
        await rig.until(lambda: vlan_of(kernel_files) == 10)

    converge(kernel_files, body, speed=20)
    assert repairs > MOST_REPAIRS


def test_a_few_repairs_in_a_row_are_not_a_fight(kernel_files: FakeKernel) -> None:
    kernel_files.tree.policy(VLAN_POLICY)
    kernel_files.tree.add_pf(PF, interface="ens1")

    async def body(rig: Rig) -> None:
        await rig.converged(PF)
        for _ in range(4):
            set_by_hand(kernel_files, OTHER_VLAN)
            await rig.reconciled_again()
            assert (vlan_of(kernel_files), rig.pf().phase) == (10, Phase.CONVERGED)

    converge(kernel_files, body)


def test_a_worker_that_cannot_be_forked_is_started_later(
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
        rig.mark_dirty(PF)
        await rig.until(lambda: bool(rig.pf().retries.failures))
        assert "cannot start a worker" in rig.pf().retries.failures[0].text
        await rig.until_phase(Phase.CONVERGED, PF)

    converge(kernel_files, body)


@pytest.mark.usefixtures("no_deadline")
def test_a_pf_whose_worker_always_dies_is_suspended_and_ready_is_sent(kernel_files: FakeKernel) -> None:
    kernel_files.tree.add_pf(PF)
    (kernel_files.tree.device(PF) / "sriov_totalvfs").write_text("nonsense\n")

    async def body(rig: Rig) -> None:
        rig.mark_dirty(PF)
        await rig.until_phase(Phase.FAILED, PF)
        assert not rig.pf().unfinished(time.monotonic(), udev_busy_at=0.0)
        attempts = rig.pf().retries.attempts
        await rig.idle()
        assert rig.pf().retries.attempts == attempts

    converge(kernel_files, body, speed=200)


@pytest.mark.usefixtures("no_deadline")
def test_a_reloaded_driver_is_tried_again(kernel_files: FakeKernel) -> None:
    kernel_files.tree.add_pf(PF)
    kernel_files.refuse(PF, NUMVFS, errno.ERANGE)

    async def body(rig: Rig) -> None:
        rig.mark_dirty(PF)
        await rig.until_phase(Phase.FAILED, PF)
        kernel_files.behave(PF, NUMVFS)
        kernel_files.tree.bind(PF, None)
        await rig.reconciled_again()
        kernel_files.tree.bind(PF, "igb")
        rig.mark_dirty(PF)
        await rig.until_phase(Phase.CONVERGED, PF)

    converge(kernel_files, body)


def test_after_a_reload_a_pf_is_converging_until_it_is_reconciled(kernel_files: FakeKernel) -> None:
    kernel_files.tree.add_pf(PF)

    async def body(rig: Rig) -> None:
        await rig.converged(PF)
        rig.scheduler.set_policy(load(kernel_files.tree.root))
        assert rig.pf().phase is Phase.CONVERGING
        await rig.until_phase(Phase.CONVERGED, PF)

    converge(kernel_files, body)


def test_a_pf_released_during_a_reconcile_is_not_changed_any_more(kernel_files: FakeKernel) -> None:
    kernel_files.tree.policy(VLAN_POLICY)
    kernel_files.tree.add_pf(PF, interface="ens1")
    kernel_files.slow_down(PF, NUMVFS, 1.0)

    async def body(rig: Rig) -> None:
        rig.mark_dirty(PF)
        await rig.until(lambda: bool(rig.pf().progress.running))
        rig.state.release(PciAddress(PF))
        with rig.state.to_itself(PciAddress(PF), 10.0):
            before = len(kernel_files.writes())
            await rig.until(lambda: not rig.pf().reconciling)
            assert len(kernel_files.writes()) == before

    converge(kernel_files, body)


@pytest.mark.usefixtures("no_deadline")
def test_a_first_failure_that_is_retried_is_not_logged_as_an_error(
    kernel_files: FakeKernel, caplog: pytest.LogCaptureFixture
) -> None:
    """Steps that are running when a card is removed fail."""
    caplog.set_level(logging.INFO)
    kernel_files.tree.add_pf(PF)
    kernel_files.refuse(PF, NUMVFS, errno.EAGAIN, times=2)

    async def body(rig: Rig) -> None:
        rig.mark_dirty(PF)
        await rig.until_phase(Phase.CONVERGED, PF)

    converge(kernel_files, body, speed=20)
    logged = [record.levelno for record in caplog.records if "EAGAIN" in record.message]
    assert logged == [logging.INFO, logging.ERROR]


def test_late_events_of_a_removed_card_do_not_log_it_as_gone_again(
    kernel_files: FakeKernel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def body(rig: Rig) -> None:
        rig.mark_dirty(PF)
        await rig.until(lambda: PF not in rig.scheduler.pfs)

    converge(kernel_files, body)
    assert "gone" not in caplog.text
