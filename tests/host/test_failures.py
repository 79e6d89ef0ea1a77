# SPDX-License-Identifier: Apache-2.0
"""Steps that fail, are refused or hang: deadlines, retries, and what is suspended."""

import asyncio
import errno
from itertools import pairwise

import pytest

from tests.host.fake_kernel import FakeKernel
from tests.host.leaks import children
from tests.host.scheduler_rig import NUMVFS, OTHER, PF, SIBLING, VLAN_POLICY, Rig, converge
from vfagent.model.status import MOST_ATTEMPTS, Phase
from vfagent.model.vf_settings import Vlan
from vfagent.reconcile import rounds
from vfagent.reconcile import scheduler as scheduler_module
from vfagent.reconcile.pf_state import PfState
from vfagent.store.policy_files import load

pytestmark = pytest.mark.usefixtures("info_level")


@pytest.fixture
def short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step may take half a second."""
    monkeypatch.setattr(PfState, "silence_s", lambda state: 0.5 if state.progress.running else 30.0)


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

    converge(kernel_files, body, dying_s=0.1)
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

    converge(kernel_files, body, dying_s=0.1)


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

    converge(kernel_files, body, dying_s=0.1)


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
