# SPDX-License-Identifier: Apache-2.0
"""The standby worker, and how reconciles wait while udev is busy."""

import asyncio
import os
import select
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.host.fake_kernel import FakeKernel
from tests.host.scheduler_rig import OTHER, PF, Rig, converge
from tests.host.tree import put
from vfagent.kernel.udev import QUEUE, STORED, NoUdevDatabase
from vfagent.model.status import Phase
from vfagent.process import worker
from vfagent.reconcile import pf_state, rounds


def standby_of(rig: Rig) -> worker.Worker:
    standby = rig.scheduler.standby.ready
    assert standby is not None
    return standby.worker


async def with_standby(rig: Rig) -> worker.Worker:
    rig.scheduler.standby.renew_soon()
    await rig.until(lambda: rig.scheduler.standby.ready is not None)
    return standby_of(rig)


def test_a_new_pf_gets_the_standby_worker(kernel_files: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel_files.tree.add_pf(PF)

    async def body(rig: Rig) -> None:
        await with_standby(rig)
        monkeypatch.setattr(worker, "start", None)  # starting another worker would fail
        rig.mark_dirty(PF)
        await rig.until_phase(Phase.CONVERGED, PF)

    converge(kernel_files, body)
    assert len(kernel_files.tree.vfs(PF)) == 2


def test_the_standby_worker_is_ready_before_udev_finishes_a_pf(kernel_files: FakeKernel) -> None:
    kernel_files.tree.add_pf(PF)
    kernel_files.tree.bind(PF, None)
    put(kernel_files.tree.root / QUEUE, "")

    async def body(rig: Rig) -> None:
        rig.scheduler.mark_dirty(PF, now=True)
        await rig.until(lambda: rig.scheduler.standby.ready is not None, within_s=0.9)
        standby = standby_of(rig)
        await asyncio.sleep(1.2)
        assert standby_of(rig) is standby  # no reconcile has used it
        put(kernel_files.tree.root / STORED / f"+pci:{PF}", "")
        kernel_files.tree.bind(PF, "igb")
        rig.scheduler.mark_dirty(PF, now=True)
        await rig.until_phase(Phase.CONVERGED, PF)

    converge(kernel_files, body)
    assert len(kernel_files.tree.vfs(PF)) == 2


def test_only_workers_read_what_a_driver_may_block(kernel_files: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """libudev reads `uevent`, which waits on some kernels for the device lock."""
    service, original = os.getpid(), NoUdevDatabase.properties

    def properties(self: NoUdevDatabase, subsystem: str, name: str) -> Mapping[str, str]:
        assert os.getpid() != service
        return original(self, subsystem, name)

    monkeypatch.setattr(NoUdevDatabase, "properties", properties)
    kernel_files.tree.add_pf(PF)
    put(kernel_files.tree.root / QUEUE, "")
    put(kernel_files.tree.root / STORED / f"+pci:{PF}", "")
    converge(kernel_files, lambda rig: rig.converged(PF))


def test_the_wait_for_udev_has_a_limit(kernel_files: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event of another device may hang for three minutes, or udev may have died and left its queue file."""
    monkeypatch.setattr(pf_state, "_WAITING_GRACE_S", 1.5)
    kernel_files.tree.add_pf(PF)
    put(kernel_files.tree.root / QUEUE, "")

    async def body(rig: Rig) -> None:
        rig.scheduler.mark_dirty(PF, now=True)
        await rig.until(lambda: rig.pf().phase is Phase.WAITING)
        assert rig.pf().progress.rounds == 0
        await rig.until_phase(Phase.CONVERGED, PF)

    converge(kernel_files, body)


def test_a_removed_pf_is_forgotten_while_udev_is_busy(kernel_files: FakeKernel) -> None:
    kernel_files.tree.add_pf(PF)

    async def body(rig: Rig) -> None:
        await rig.converged(PF)
        put(kernel_files.tree.root / QUEUE, "")
        shutil.rmtree(kernel_files.tree.device(PF))
        rig.mark_dirty(PF)
        await rig.until(lambda: PF not in rig.scheduler.pfs)
        rig.mark_dirty(PF)  # a late event of the removed PF
        await rig.until(lambda: PF not in rig.scheduler.pfs, within_s=5.0)

    converge(kernel_files, body)


def test_a_pf_converges_when_the_standby_worker_has_died(kernel_files: FakeKernel) -> None:
    kernel_files.tree.add_pf(PF)

    async def body(rig: Rig) -> None:
        child = await with_standby(rig)
        child.kill()
        assert select.select([child.pidfd], [], [], 5)[0]
        await rig.converged(PF)
        await rig.until(lambda: not Path(f"/proc/{child.pid}").exists())  # and not a zombie

    converge(kernel_files, body)
    assert len(kernel_files.tree.vfs(PF)) == 2


def test_no_standby_worker_is_started_while_a_worker_runs(kernel_files: FakeKernel) -> None:
    kernel_files.tree.add_pf(PF)
    release = kernel_files.hang(PF, "sriov_numvfs")

    async def body(rig: Rig) -> None:
        rig.mark_dirty(PF)
        await rig.until(lambda: bool(kernel_files.writes(PF, "sriov_drivers_autoprobe")))
        rig.scheduler.standby.renew_soon()
        await asyncio.sleep(1.5)
        assert rig.scheduler.working
        assert rig.scheduler.standby.ready is None
        release.touch()
        await rig.until_phase(Phase.CONVERGED, PF)
        child = await with_standby(rig)
        await rig.scheduler.stop(within_s=10.0)
        await rig.until(lambda: not Path(f"/proc/{child.pid}").exists())

    converge(kernel_files, body)


def test_no_standby_worker_is_started_while_udev_is_busy(kernel_files: FakeKernel) -> None:
    put(kernel_files.tree.root / QUEUE, "")

    async def body(rig: Rig) -> None:
        rig.scheduler.standby.renew_soon()
        await asyncio.sleep(2.2)
        assert rig.scheduler.standby.ready is None
        (kernel_files.tree.root / QUEUE).unlink()
        await rig.until(lambda: rig.scheduler.standby.ready is not None, within_s=2.0)
        child = standby_of(rig)
        await rig.scheduler.stop(within_s=10.0)
        await rig.until(lambda: not Path(f"/proc/{child.pid}").exists())

    converge(kernel_files, body)


def test_events_of_a_converged_pf_wait_while_udev_is_busy(kernel_files: FakeKernel) -> None:
    """At a boot each would cost a reconcile, while guests wait for udev to handle their VFs."""
    kernel_files.tree.add_pf(PF)

    async def body(rig: Rig) -> None:
        await rig.converged(PF)
        put(kernel_files.tree.root / QUEUE, "")
        rounds = rig.pf().progress.rounds
        for _ in range(10):
            rig.mark_dirty(PF)
            await asyncio.sleep(0.2)
        assert rig.pf().progress.rounds == rounds
        (kernel_files.tree.root / QUEUE).unlink()
        await rig.until(lambda: rig.pf().progress.rounds == rounds + 1, within_s=2.0)

    converge(kernel_files, body)


@pytest.mark.parametrize("hurried", [False, True])
def test_drift_is_repaired_while_udev_is_busy(
    kernel_files: FakeKernel, monkeypatch: pytest.MonkeyPatch, *, hurried: bool
) -> None:
    monkeypatch.setattr("vfagent.reconcile.requests._UDEV_BUSY_S", 2.0)
    kernel_files.tree.add_pf(PF)

    async def body(rig: Rig) -> None:
        await rig.converged(PF)
        put(kernel_files.tree.root / QUEUE, "")
        (vf, _) = kernel_files.tree.vfs(PF)
        kernel_files.tree.bind(vf, None)
        rig.scheduler.mark_dirty(PF, now=hurried)
        await rig.until(lambda: kernel_files.tree.bound(vf) == "vfio-pci", within_s=1.0 if hurried else 5.0)

    converge(kernel_files, body)


def test_a_card_removed_before_its_worker_is_adopted_is_forgotten(kernel_files: FakeKernel) -> None:
    kernel_files.tree.add_pf(PF)

    async def body(rig: Rig) -> None:
        task = rounds.Task(OTHER, rig.scheduler.policy, rig.scheduler.identity)
        begun = worker.start(lambda send: rounds.converge(task, kernel_files.host, rig.state, send))
        rig.scheduler.adopt({OTHER: begun})
        await rig.until(lambda: OTHER not in rig.scheduler.pfs)
        await rig.converged(PF)

    converge(kernel_files, body)


def test_a_stopped_scheduler_leaves_no_worker_behind(kernel_files: FakeKernel) -> None:
    left: list[worker.Worker] = []

    async def body(rig: Rig) -> None:
        left.append(await with_standby(rig))
        await rig.scheduler.stop(within_s=10.0)
        rig.scheduler.standby.renew_soon()
        await rig.until(lambda: not Path(f"/proc/{left[0].pid}").exists())
        await asyncio.sleep(1.2)
        assert rig.scheduler.standby.ready is None

    converge(kernel_files, body)
