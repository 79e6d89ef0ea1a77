# SPDX-License-Identifier: Apache-2.0
"""Reconciles of PFs: their order, deadlines, failures, status and log."""

import asyncio
import errno
import logging
import os
import select
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from tests.host.fake_kernel import FakeKernel, by_card, overlap
from tests.host.leaks import children, run_to_end
from tests.host.tree import put
from vfagent.kernel.protocols import Host
from vfagent.kernel.udev import QUEUE, STORED, NoUdevDatabase
from vfagent.model.inventory import Pf
from vfagent.model.pci import PciAddress
from vfagent.model.status import MOST_ATTEMPTS, Phase
from vfagent.model.vf_settings import Vlan
from vfagent.policy.match import HostIdentity
from vfagent.process import worker
from vfagent.process.workers import Workers
from vfagent.reconcile import pf_state, requests, rounds
from vfagent.reconcile import scheduler as scheduler_module
from vfagent.reconcile.observe import observe_pf
from vfagent.reconcile.pf_state import PfState
from vfagent.reconcile.scheduler import Scheduler
from vfagent.store.policy_files import load
from vfagent.store.state import State

PF = PciAddress("0000:01:00.0")
SIBLING = PciAddress("0000:01:00.1")
OTHER = PciAddress("0000:02:00.0")
NUMVFS = "sriov_numvfs"

POLICY = """
[[pf]]
name = "all"
match = { driver = "igb" }
vfs = 2

[[pf.vf]]
index = "*"
driver = "vfio-pci"
"""
VLAN_POLICY = POLICY + "vlan = 10\n"


@pytest.fixture
def kernel_files(tmp_path: Path) -> FakeKernel:
    kernel = FakeKernel(tmp_path)
    kernel.tree.policy(POLICY)
    return kernel


@pytest.fixture(autouse=True)
def info_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


class Rig:
    """A scheduler on a host, and means to wait for its results."""

    def __init__(self, kernel: FakeKernel, most: int) -> None:
        self.kernel = kernel
        self.state = State(kernel.tree.root)
        self.broken = False  # the next report cannot be taken
        self.phases: dict[str, list[Phase]] = {}
        identity = HostIdentity(hostname="host", machine_id="0" * 32)
        policy = load(kernel.tree.root)
        self.scheduler = Scheduler(kernel.host, self.state, identity, policy, Workers(most=most), self._changed)

    def _changed(self, state: PfState) -> None:
        self.phases.setdefault(state.address, []).append(state.phase)
        if self.broken and state.reconciling:
            self.broken = False
            raise RuntimeError("a bug")

    def pf(self, address: PciAddress = PF) -> PfState:
        return self.scheduler.pfs[address]

    def mark_dirty(self, *addresses: PciAddress) -> None:
        for address in addresses:
            self.scheduler.mark_dirty(address)

    async def until(self, condition: Callable[[], bool], *, within_s: float = 10.0) -> None:
        end = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < end, list(self.scheduler.pfs.values())
            await asyncio.sleep(0.01)

    async def reconciled_again(self, address: PciAddress = PF) -> None:
        """After an event, to the end of the reconcile that it causes."""
        rounds = self.pf(address).progress.rounds
        self.mark_dirty(address)
        await self.until(lambda: self.pf(address).progress.rounds > rounds and not self.pf(address).reconciling)

    async def until_phase(self, phase: Phase, *addresses: PciAddress) -> None:
        await self.until(lambda: all(self.pf(pf).phase is phase and not self.pf(pf).reconciling for pf in addresses))

    async def converged(self, *addresses: PciAddress) -> None:
        self.mark_dirty(*addresses)
        await self.until_phase(Phase.CONVERGED, *addresses)

    async def idle(self) -> None:
        await self.until(lambda: self.scheduler.idle)


def converge(
    kernel: FakeKernel, body: Callable[[Rig], Awaitable[None]], *, speed: float = 1.0, most: int = worker.MOST
) -> None:
    """`speed`: how many seconds of the event loop pass in one; `most`: workers at once."""

    async def run() -> None:
        if speed != 1.0:
            speed_up(speed)
        rig = Rig(kernel, most)
        await body(rig)
        await rig.scheduler.stop(within_s=10.0)
        assert not rig.scheduler.working, "a worker does not exit"

    run_to_end(run())


def speed_up(speed: float) -> None:
    """Make the loop's clock run faster, so that tests can wait for long delays."""
    loop = asyncio.get_running_loop()
    select = loop._selector.select  # type: ignore[attr-defined]
    loop._selector.select = lambda timeout: select(timeout and timeout / speed)  # type: ignore[attr-defined]
    loop.time = lambda: time.monotonic() * speed  # type: ignore[method-assign]


def test_a_pf_converges_with_the_policy(kernel_files: FakeKernel) -> None:
    tree = kernel_files.tree
    tree.policy(VLAN_POLICY)
    tree.add_pf(PF, interface="ens1")

    async def body(rig: Rig) -> None:
        await rig.converged(PF)

    converge(kernel_files, body)
    assert [tree.bound(vf) for vf in tree.vfs(PF)] == ["vfio-pci", "vfio-pci"]
    settings = [kernel_files.settings(PF, index) for index in range(2)]
    assert [vf and vf.vlan for vf in settings] == [Vlan(10), Vlan(10)]
    assert (tree.root / "sys/class/net/ens1/flags").read_text() == "0x1003\n"


def test_a_vf_that_another_driver_probes_is_bound_in_the_same_reconcile(
    kernel_files: FakeKernel, caplog: pytest.LogCaptureFixture
) -> None:
    """In the lab udev loaded igbvf while VFs were created; another reconcile took 0.9 s of a boot."""
    kernel_files.tree.add_pf(PF, interface="ens1")
    kernel_files.pass_over("0000:01:10.0", "drivers_probe", times=1)

    async def body(rig: Rig) -> None:
        await rig.converged(PF)

    converge(kernel_files, body)
    assert [kernel_files.tree.bound(vf) for vf in kernel_files.tree.vfs(PF)] == ["vfio-pci", "vfio-pci"]
    assert "cannot bind" not in caplog.text


def test_a_converged_pf_is_not_written_to(kernel_files: FakeKernel) -> None:
    kernel_files.tree.add_pf(PF, interface="ens1")

    async def body(rig: Rig) -> None:
        await rig.converged(PF)
        before = rig.kernel.writes()
        rounds = rig.pf().progress.rounds
        rig.mark_dirty(PF)
        await rig.until(lambda: rig.pf().progress.rounds > rounds)
        await rig.idle()
        assert rig.kernel.writes() == before

    converge(kernel_files, body)


def test_pfs_of_a_card_run_one_by_one_and_cards_in_parallel(kernel_files: FakeKernel) -> None:
    for address in (PF, SIBLING, OTHER):
        kernel_files.tree.add_pf(address)
        kernel_files.slow_down(address, NUMVFS, 0.5)

    async def body(rig: Rig) -> None:
        await rig.converged(PF, SIBLING, OTHER)

    converge(kernel_files, body)
    cards = by_card(kernel_files.writes(file=NUMVFS))
    assert sorted(map(len, cards.values())) == [1, 2]
    assert not any(overlap(writes) for writes in cards.values())
    assert overlap([write for writes in cards.values() for write in writes])


def test_so_many_workers_run_at_once_and_all_cards_converge(kernel_files: FakeKernel) -> None:
    """64 of them took 360 MiB."""
    cards = [PciAddress(f"0000:{number:02x}:00.0") for number in range(1, 9)]
    for address in cards:
        kernel_files.tree.add_pf(address)
        kernel_files.slow_down(address, NUMVFS, 0.3)
    running = list[int]()

    async def body(rig: Rig) -> None:
        before = children()
        rig.mark_dirty(*cards)
        while not all(address in rig.scheduler.pfs and rig.pf(address).phase is Phase.CONVERGED for address in cards):
            running.append(len(children() - before))
            await asyncio.sleep(0.01)

    converge(kernel_files, body, most=2)
    assert max(running) == 2


def test_cards_do_not_wait_for_a_place_behind_one_that_hangs(kernel_files: FakeKernel) -> None:
    for address in (PF, OTHER):
        kernel_files.tree.add_pf(address)
    release = kernel_files.hang(PF, NUMVFS)

    async def body(rig: Rig) -> None:
        rig.mark_dirty(PF)
        await rig.until(lambda: bool(rig.pf().progress.running))
        await rig.converged(OTHER)
        assert rig.pf().progress.running
        release.touch()
        await rig.until_phase(Phase.CONVERGED, PF)

    converge(kernel_files, body, most=1)


@pytest.fixture
def short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step may take half a second."""
    monkeypatch.setattr(PfState, "silence_s", lambda state: 0.5 if state.progress.running else 30.0)
    monkeypatch.setattr("vfagent.process.workers._DYING_S", 0.2)


@pytest.mark.usefixtures("short_deadline")
def test_a_worker_with_a_hanging_write_is_killed_at_its_deadline(
    kernel_files: FakeKernel, caplog: pytest.LogCaptureFixture
) -> None:
    kernel_files.tree.add_pf(PF)
    kernel_files.hang(PF, NUMVFS)

    async def body(rig: Rig) -> None:
        rig.mark_dirty(PF)
        await rig.until(lambda: bool(rig.pf().retries.failures))
        (failure,) = rig.pf().retries.failures
        assert failure.text == f"{PF}: cannot create 2 VFs on {PF}: no answer from the kernel within 0 s"
        kernel_files.behave(PF, NUMVFS)
        await rig.until_phase(Phase.CONVERGED, PF)

    converge(kernel_files, body)
    assert Phase.STUCK not in [record.message for record in caplog.records]
    assert len(kernel_files.tree.vfs(PF)) == 2


@pytest.mark.usefixtures("short_deadline", "unkillable")
def test_a_stuck_pf_does_not_delay_other_cards(kernel_files: FakeKernel, caplog: pytest.LogCaptureFixture) -> None:
    for address in (PF, OTHER):
        kernel_files.tree.add_pf(address)
    release = kernel_files.hang(PF, NUMVFS)

    async def body(rig: Rig) -> None:
        rig.mark_dirty(PF, OTHER)
        await rig.until(lambda: rig.pf().phase is Phase.STUCK and rig.pf(OTHER).phase is Phase.CONVERGED)
        (failure,) = rig.pf().retries.failures
        assert "no answer from the kernel" in failure.text
        assert failure.hint
        rig.mark_dirty(PF)
        await asyncio.sleep(0.3)
        assert len([record for record in caplog.records if "stuck" in record.message]) == 1
        release.touch()
        await rig.until_phase(Phase.CONVERGED, PF)

    converge(kernel_files, body)
    assert len(kernel_files.tree.vfs(OTHER)) == len(kernel_files.tree.vfs(PF)) == 2


@pytest.mark.usefixtures("short_deadline", "unkillable")
def test_a_stuck_pf_does_not_delay_other_pfs_of_its_card(kernel_files: FakeKernel) -> None:
    for address in (PF, SIBLING):
        kernel_files.tree.add_pf(address)
    release = kernel_files.hang(PF, NUMVFS)

    async def body(rig: Rig) -> None:
        rig.mark_dirty(PF, SIBLING)
        await rig.until(lambda: rig.pf().phase is Phase.STUCK)
        await rig.until_phase(Phase.CONVERGED, SIBLING)
        release.touch()
        await rig.until_phase(Phase.CONVERGED, PF)

    converge(kernel_files, body)


@pytest.mark.usefixtures("short_deadline", "unkillable")
def test_a_stuck_pf_keeps_its_failure_through_a_reload(kernel_files: FakeKernel) -> None:
    kernel_files.tree.add_pf(PF)
    release = kernel_files.hang(PF, NUMVFS)

    async def body(rig: Rig) -> None:
        rig.mark_dirty(PF)
        await rig.until(lambda: rig.pf().phase is Phase.STUCK)
        rig.scheduler.set_policy(load(kernel_files.tree.root))
        await asyncio.sleep(0.1)
        assert rig.pf().phase is Phase.STUCK
        assert rig.pf().retries.failures
        release.touch()
        await rig.until_phase(Phase.CONVERGED, PF)

    converge(kernel_files, body)


@pytest.fixture
def no_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests with a faster clock, which workers do not have."""
    monkeypatch.setattr(PfState, "silence_s", lambda state: 1e6)


@pytest.mark.usefixtures("no_deadline")
def test_failures_are_retried_with_back_off_and_then_suspended(
    kernel_files: FakeKernel, caplog: pytest.LogCaptureFixture
) -> None:
    kernel_files.tree.add_pf(PF)
    kernel_files.refuse(PF, NUMVFS, errno.EAGAIN)
    speed = 50.0

    async def body(rig: Rig) -> None:
        rig.mark_dirty(PF)
        await rig.until_phase(Phase.FAILED, PF)
        await rig.idle()

    converge(kernel_files, body, speed=speed)
    tries = kernel_files.writes(PF, NUMVFS)
    assert len(tries) == MOST_ATTEMPTS == 8
    pauses = [later.began - earlier.ended for earlier, later in pairwise(tries)]
    for number, pause in enumerate(pauses):
        expected = min(2.0**number, 60.0) / speed
        assert expected <= pause <= expected + 1.0, pauses
    assert len([record for record in caplog.records if "suspended after 8 attempts" in record.message]) == 1
    assert len([record for record in caplog.records if "EAGAIN" in record.message]) == 8


@pytest.mark.usefixtures("no_deadline")
def test_suspended_steps_are_not_tried_until_a_reload(kernel_files: FakeKernel) -> None:
    kernel_files.tree.add_pf(PF)
    kernel_files.refuse(PF, NUMVFS, errno.EAGAIN)

    async def body(rig: Rig) -> None:
        rig.mark_dirty(PF)
        await rig.until_phase(Phase.FAILED, PF)
        kernel_files.behave(PF, NUMVFS)
        await rig.reconciled_again()
        assert rig.pf().phase is Phase.FAILED
        assert rig.pf().retries.failures
        assert len(kernel_files.writes(PF, NUMVFS)) == MOST_ATTEMPTS
        rig.scheduler.set_policy(load(kernel_files.tree.root))
        await rig.until_phase(Phase.CONVERGED, PF)
        assert rig.pf().retries.failures == ()

    converge(kernel_files, body, speed=200)


def test_a_permanent_failure_is_not_retried(kernel_files: FakeKernel, caplog: pytest.LogCaptureFixture) -> None:
    kernel_files.tree.add_pf(PF)
    kernel_files.refuse(PF, NUMVFS, errno.ERANGE)

    async def body(rig: Rig) -> None:
        rig.mark_dirty(PF)
        await rig.until_phase(Phase.FAILED, PF)
        await asyncio.sleep(0.2)

    converge(kernel_files, body)
    assert len(kernel_files.writes(PF, NUMVFS)) == 1
    assert "more than the card's totalvfs" in caplog.text


def test_a_permanent_failure_after_successful_steps_is_not_retried(kernel_files: FakeKernel) -> None:
    """The next plan is shorter, but has the same failing step."""
    kernel_files.tree.add_pf(PF)
    kernel_files.refuse(PF, NUMVFS, errno.ERANGE)

    async def body(rig: Rig) -> None:
        rig.mark_dirty(PF)
        await rig.until_phase(Phase.FAILED, PF)
        steps = len(rig.pf().plan.steps)
        await rig.reconciled_again()
        assert len(rig.pf().plan.steps) < steps
        assert rig.pf().phase is Phase.FAILED

    converge(kernel_files, body)
    assert len(kernel_files.writes(PF, NUMVFS)) == 1


def test_a_temporary_failure_is_retried_and_the_pf_converges(kernel_files: FakeKernel) -> None:
    kernel_files.tree.add_pf(PF)
    kernel_files.refuse(PF, NUMVFS, errno.EAGAIN, times=2)

    async def body(rig: Rig) -> None:
        await rig.converged(PF)
        assert rig.pf().retries.failures == ()

    converge(kernel_files, body, speed=20)
    assert [write.errno for write in kernel_files.writes(PF, NUMVFS)] == [errno.EAGAIN, errno.EAGAIN, 0]


def test_a_worker_that_dies_is_a_failure_and_is_retried(
    kernel_files: FakeKernel, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    kernel_files.tree.add_pf(PF)
    once = kernel_files.tree.root / "died"
    original = rounds.converge

    def die_once(*arguments: object) -> None:
        if not once.exists():
            once.touch()
            raise RuntimeError("a bug")
        original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(scheduler_module, "converge", die_once)

    async def body(rig: Rig) -> None:
        rig.mark_dirty(PF)
        await rig.until(lambda: bool(rig.pf().retries.failures))
        assert rig.pf().retries.failures[0].text == f"{PF}: reconcile failed: worker exited with status 1"
        await rig.until_phase(Phase.CONVERGED, PF)

    converge(kernel_files, body, speed=10)
    assert "RuntimeError: a bug" in capfd.readouterr().err


def test_deferred_steps_are_done_as_soon_as_the_vf_is_free(
    kernel_files: FakeKernel, caplog: pytest.LogCaptureFixture
) -> None:
    """No event tells when a VFIO group is closed: the PF has to be observed again."""
    tree = kernel_files.tree
    tree.add_pf(PF, vfs=1)
    (guests_vf,) = tree.vfs(PF)
    tree.bind(guests_vf, "vfio-pci")
    (tree.device(guests_vf) / "enable").write_text("1\n")

    async def body(rig: Rig) -> None:
        rig.mark_dirty(PF)
        await rig.until_phase(Phase.DEFERRED, PF)
        await asyncio.sleep(1)
        assert tree.vfs(PF) == [guests_vf]
        assert kernel_files.writes(file=NUMVFS) == []
        (tree.device(guests_vf) / "enable").write_text("0\n")
        await rig.until_phase(Phase.CONVERGED, PF)

    converge(kernel_files, body, speed=10)
    assert len(tree.vfs(PF)) == 2
    deferred = [record.message for record in caplog.records if "deferred" in record.message]
    assert len(deferred) == 1
    assert "vf0: a process has it open through vfio-pci" in deferred[0]


def isolation_refused(kernel: FakeKernel) -> None:
    kernel.tree.policy(VLAN_POLICY)
    kernel.tree.add_pf(PF, interface="ens1")
    for vf in ("vf0", "vf1"):
        kernel.refuse(PF, vf, errno.EOPNOTSUPP)


@pytest.mark.usefixtures("no_deadline")
def test_refused_isolation_is_tried_again_slowly_and_heals(
    kernel_files: FakeKernel, caplog: pytest.LogCaptureFixture
) -> None:
    isolation_refused(kernel_files)

    async def body(rig: Rig) -> None:
        rig.mark_dirty(PF)
        await rig.until_phase(Phase.FAILED, PF)
        await rig.idle()
        tried = len(kernel_files.writes(file="vf0"))
        await rig.reconciled_again()
        assert len(kernel_files.writes(file="vf0")) == tried > 0
        for vf in ("vf0", "vf1"):
            kernel_files.behave(PF, vf)
        began = asyncio.get_running_loop().time()
        await rig.until_phase(Phase.CONVERGED, PF)
        assert asyncio.get_running_loop().time() - began > 300

    converge(kernel_files, body, speed=200)
    assert not [record for record in caplog.records if "drift" in record.message]
    settings = [kernel_files.settings(PF, index) for index in (0, 1)]
    assert [vf and vf.vlan for vf in settings] == [Vlan(10)] * 2


def test_refused_isolation_is_tried_again_at_a_reload(kernel_files: FakeKernel) -> None:
    isolation_refused(kernel_files)

    async def body(rig: Rig) -> None:
        rig.mark_dirty(PF)
        await rig.until_phase(Phase.FAILED, PF)
        for vf in ("vf0", "vf1"):
            kernel_files.behave(PF, vf)
        rig.scheduler.set_policy(load(kernel_files.tree.root))
        await rig.until_phase(Phase.CONVERGED, PF)

    converge(kernel_files, body)


def test_drift_is_logged_once_with_found_and_wanted_values(
    kernel_files: FakeKernel, caplog: pytest.LogCaptureFixture
) -> None:
    kernel_files.tree.policy(VLAN_POLICY)
    kernel_files.tree.add_pf(PF, interface="ens1")

    async def body(rig: Rig) -> None:
        await rig.converged(PF)
        wanted = kernel_files.settings(PF, 1)
        assert wanted is not None
        kernel_files.refuse(PF, "vf1", errno.EBUSY, times=4)  # two attempts, each with all settings and then one by one
        kernel_files.keep_settings(PF, 1, replace(wanted, vlan=Vlan(99)))
        await rig.converged(PF)
        await rig.until(lambda: kernel_files.settings(PF, 1) == wanted)

    converge(kernel_files, body, speed=5)
    (drift,) = [record.message for record in caplog.records if "drift" in record.message]
    assert drift == f"PF {PF} (ens1): drift: found vlan 99, wanted: set {PF}/vf1 vlan 10"


def test_a_first_convergence_is_not_drift(kernel_files: FakeKernel, caplog: pytest.LogCaptureFixture) -> None:
    kernel_files.tree.add_pf(PF, vfs=1)

    async def body(rig: Rig) -> None:
        await rig.converged(PF)

    converge(kernel_files, body)
    assert "drift" not in caplog.text


def test_a_released_pf_is_observed_and_not_changed(kernel_files: FakeKernel) -> None:
    kernel_files.tree.add_pf(PF, vfs=1)

    async def body(rig: Rig) -> None:
        rig.state.release(PF)
        rig.mark_dirty(PF)
        await rig.until(lambda: rig.pf().phase is Phase.RELEASED and rig.pf().known)
        await rig.idle()
        assert kernel_files.writes() == []
        rig.state.take_back(PF)
        await rig.converged(PF)

    converge(kernel_files, body)
    assert len(kernel_files.tree.vfs(PF)) == 2


def test_a_removed_pf_is_forgotten(kernel_files: FakeKernel, caplog: pytest.LogCaptureFixture) -> None:
    kernel_files.tree.add_pf(PF)

    async def body(rig: Rig) -> None:
        await rig.converged(PF)
        shutil.rmtree(kernel_files.tree.device(PF))
        rig.mark_dirty(PF)
        await rig.until(lambda: PF not in rig.scheduler.pfs)
        assert rig.scheduler.idle

    converge(kernel_files, body)
    assert f"PF {PF}: gone" in caplog.text


def test_a_pf_that_is_inserted_again_is_configured_again(kernel_files: FakeKernel) -> None:
    tree = kernel_files.tree
    tree.add_pf(PF)

    async def body(rig: Rig) -> None:
        await rig.converged(PF)
        shutil.rmtree(tree.device(PF))
        rig.mark_dirty(PF)
        await rig.until(lambda: PF not in rig.scheduler.pfs)
        tree.add_pf(PF)
        await rig.converged(PF)

    converge(kernel_files, body)
    assert len(tree.vfs(PF)) == 2


def test_a_pf_that_changes_during_a_reconcile_is_reconciled_again(kernel_files: FakeKernel) -> None:
    tree = kernel_files.tree
    tree.add_pf(PF)
    kernel_files.slow_down(PF, NUMVFS, 0.3)

    async def body(rig: Rig) -> None:
        rig.mark_dirty(PF)
        await rig.until(lambda: bool(rig.pf().progress.running))
        rig.mark_dirty(PF)
        await rig.until(lambda: rig.pf().progress.rounds == 2)  # executed and verified
        await rig.idle()
        assert rig.pf().progress.rounds > 2

    converge(kernel_files, body)


def test_a_policy_that_is_loaded_during_a_reconcile_is_applied_after_it(kernel_files: FakeKernel) -> None:
    tree = kernel_files.tree
    tree.add_pf(PF)
    kernel_files.slow_down(PF, NUMVFS, 0.3)

    async def body(rig: Rig) -> None:
        rig.mark_dirty(PF)
        await rig.until(lambda: bool(rig.pf().progress.running))
        tree.policy(POLICY.replace("vfs = 2", "vfs = 5"))
        rig.scheduler.set_policy(load(tree.root))
        await rig.until(lambda: len(tree.vfs(PF)) == 5)
        await rig.until_phase(Phase.CONVERGED, PF)

    converge(kernel_files, body)
    assert len(tree.vfs(PF)) == 5


def test_ten_thousand_requests_cause_at_most_three_reconciles(kernel_files: FakeKernel) -> None:
    kernel_files.tree.add_pf(PF)

    async def body(rig: Rig) -> None:
        await rig.converged(PF)
        rounds = rig.pf().progress.rounds
        for number in range(10_000):
            rig.mark_dirty(PF)
            if number % 100 == 0:
                await asyncio.sleep(0)
        await rig.until(lambda: rig.pf().progress.rounds > rounds)
        await rig.idle()
        assert rig.pf().progress.rounds - rounds <= 3

    converge(kernel_files, body)


def slow_observation(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Each observation takes that long, as on a busy host."""

    def slow(host: Host, address: PciAddress) -> Pf | None:
        time.sleep(seconds)
        return observe_pf(host, address)

    monkeypatch.setattr(rounds, "observe_pf", slow)


def test_a_stream_of_events_causes_one_reconcile_per_second(
    kernel_files: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the lab two cards that appeared together were reconciled seven times each, which delayed udev."""
    kernel_files.tree.add_pf(PF)

    async def body(rig: Rig) -> None:
        await rig.converged(PF)
        slow_observation(monkeypatch, 0.4)
        rounds = rig.pf().progress.rounds
        for _ in range(60):
            rig.mark_dirty(PF)
            await asyncio.sleep(0.05)
        await rig.idle()
        assert 2 <= rig.pf().progress.rounds - rounds <= 4

    converge(kernel_files, body)


def test_an_immediate_request_skips_the_delay(kernel_files: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it is requested during a reconcile."""
    monkeypatch.setattr(requests, "_LONGEST_DELAY_S", 60.0)
    monkeypatch.setattr(requests, "_REST", 1000.0)
    kernel_files.tree.add_pf(PF)

    async def body(rig: Rig) -> None:
        await rig.converged(PF)
        slow_observation(monkeypatch, 0.4)
        rounds = rig.pf().progress.rounds
        rig.mark_dirty(PF)
        await asyncio.sleep(0.5)
        assert not rig.pf().reconciling
        rig.scheduler.mark_dirty(PF, now=True)
        await rig.until(lambda: rig.pf().reconciling)
        rig.scheduler.mark_dirty(PF, now=True)
        await rig.until(lambda: rig.pf().progress.rounds == rounds + 2)

    converge(kernel_files, body)


# The standby worker.


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
    kernel_files.slow_down(PF, "sriov_numvfs", 4.0)

    async def body(rig: Rig) -> None:
        rig.mark_dirty(PF)
        await rig.until(lambda: bool(kernel_files.writes(PF, "sriov_drivers_autoprobe")))
        rig.scheduler.standby.renew_soon()
        await asyncio.sleep(1.5)
        assert rig.scheduler.working
        assert rig.scheduler.standby.ready is None
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
def test_drift_is_repaired_while_udev_is_busy(kernel_files: FakeKernel, *, hurried: bool) -> None:
    kernel_files.tree.add_pf(PF)

    async def body(rig: Rig) -> None:
        await rig.converged(PF)
        put(kernel_files.tree.root / QUEUE, "")
        (vf, _) = kernel_files.tree.vfs(PF)
        kernel_files.tree.bind(vf, None)
        rig.scheduler.mark_dirty(PF, now=hurried)
        await rig.until(lambda: kernel_files.tree.bound(vf) == "vfio-pci", within_s=1.0 if hurried else 8.0)

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


def test_a_reconcile_that_cannot_begin_gives_its_place_back(
    kernel_files: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address in (PF, OTHER):
        kernel_files.tree.add_pf(address)
    raised = list[str]()

    async def body(rig: Rig) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, about: raised.append(str(about["exception"])))

        def released_once() -> frozenset[str]:
            monkeypatch.undo()
            raise RuntimeError("a bug")

        monkeypatch.setattr(rig.state, "released", released_once)
        rig.mark_dirty(PF)
        await rig.until(lambda: bool(raised))
        await rig.converged(OTHER)

    converge(kernel_files, body, most=1)
    assert raised == ["a bug"]


def test_a_worker_whose_reports_cannot_be_taken_is_ended(kernel_files: FakeKernel) -> None:
    kernel_files.tree.add_pf(PF)
    kernel_files.hang(PF, NUMVFS)

    async def body(rig: Rig) -> None:
        before, raised = children(), list[str]()
        asyncio.get_running_loop().set_exception_handler(lambda _, about: raised.append(str(about["exception"])))
        rig.broken = True
        rig.mark_dirty(PF)
        await rig.until(lambda: raised == ["a bug"])
        await rig.until(lambda: not children() - before)
        assert not rig.scheduler.workers.streaming
        assert rig.pf().request.dirty

    converge(kernel_files, body)


def as_its_rule_says(kernel: FakeKernel) -> None:
    """But for what only prepares what vfagent does later."""
    kernel.tree.add_pf(PF, vfs=2)
    for vf in kernel.tree.vfs(PF):
        kernel.tree.bind(vf, "vfio-pci")
        kernel.tree.add_device(vf, driver_override="vfio-pci")


def test_a_pf_that_was_released_meanwhile_is_as_others_made_it(kernel_files: FakeKernel) -> None:
    as_its_rule_says(kernel_files)
    kernel_files.tree.bind(kernel_files.tree.vfs(PF)[0], None)

    async def body(rig: Rig) -> None:
        await rig.converged(PF)
        put(kernel_files.tree.device(PF) / "sriov_drivers_autoprobe", "1\n")
        rig.state.release(PF)
        rig.state.forget_baseline(PF)
        await rig.reconciled_again()
        rig.state.take_back(PF)
        before = rig.kernel.writes()
        await rig.reconciled_again()
        await rig.until_phase(Phase.CONVERGED, PF)
        assert rig.kernel.writes() == before

    converge(kernel_files, body)


def test_a_card_in_the_slot_of_a_changed_one_is_as_others_made_it(kernel_files: FakeKernel) -> None:
    as_its_rule_says(kernel_files)

    async def body(rig: Rig) -> None:
        pf = observe_pf(kernel_files.host, PF)
        assert pf is not None
        rig.state.keep_baseline(replace(pf, device="0x1521"))
        await rig.converged(PF)
        assert rig.kernel.writes() == []

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
