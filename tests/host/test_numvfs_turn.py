# SPDX-License-Identifier: Apache-2.0
"""Kernels that create and remove VFs of one card at a time: cards take turns, and say for whom they wait."""

import fcntl
import logging
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tests.host.fake_kernel import FakeKernel, overlap
from tests.host.scheduler_rig import NUMVFS, OTHER, PF, Rig, converge
from vfagent.cli.main import main
from vfagent.errors import VfagentError
from vfagent.exit_status import Exit
from vfagent.model.numvfs_lock import NumvfsOwner
from vfagent.model.pci import PciAddress
from vfagent.model.status import Phase
from vfagent.plan.steps import SetNumvfs
from vfagent.reconcile import numvfs_turn
from vfagent.reconcile.pf_state import Retries
from vfagent.reconcile.status import pf_status
from vfagent.store.numvfs_token import NumvfsTokenFile
from vfagent.store.policy_files import load

DEADLINE_S = 2.0
SLOW_S = 0.9
CARDS = tuple(PciAddress(f"0000:{number:02x}:00.0") for number in range(1, 9))


pytestmark = pytest.mark.usefixtures("info_level")


@pytest.fixture
def one_card(kernel_files: FakeKernel) -> FakeKernel:
    kernel_files.one_card = True
    return kernel_files


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write of sriov_numvfs may take DEADLINE_S."""
    monkeypatch.setattr(SetNumvfs, "deadline_s", DEADLINE_S)


@pytest.mark.usefixtures("short")
def test_slow_cards_take_turns_and_none_counts_as_stuck(one_card: FakeKernel, caplog: pytest.LogCaptureFixture) -> None:
    """Together they take longer than one of them may."""
    for address in CARDS[:4]:
        one_card.tree.add_pf(address)
        one_card.slow_down(address, NUMVFS, SLOW_S)

    async def body(rig: Rig) -> None:
        rig.mark_dirty(*CARDS[:4])
        await rig.until(lambda: any(rig.pf(card).kernel_busy for card in CARDS[:4]))
        waiting = [rig.pf(card) for card in CARDS[:4] if rig.pf(card).kernel_busy]
        assert {state.phase for state in waiting} == {Phase.WAITING}
        assert all(state.unfinished(time.monotonic(), 0.0) for state in waiting)
        await rig.until_phase(Phase.CONVERGED, *CARDS[:4])

    converge(one_card, body)
    assert [record.message for record in caplog.records if record.levelno > logging.INFO] == []
    assert not overlap(one_card.writes(file=NUMVFS))


@pytest.mark.usefixtures("short", "unkillable")
def test_a_card_waits_for_a_stuck_one_and_says_so(one_card: FakeKernel, caplog: pytest.LogCaptureFixture) -> None:
    for address in (PF, OTHER):
        one_card.tree.add_pf(address)
    release = one_card.hang(PF, NUMVFS)

    async def body(rig: Rig) -> None:
        rig.mark_dirty(PF)
        await rig.until(lambda: bool(rig.pf().progress.running))
        rig.mark_dirty(OTHER)
        await rig.until(lambda: rig.pf().phase is Phase.STUCK)
        await rig.until(lambda: rig.pf(OTHER).phase is Phase.WAITING and not rig.pf(OTHER).reconciling)
        other = rig.pf(OTHER)
        (text,) = pf_status(other).waiting
        assert text.startswith(f"the kernel is busy with PF {PF} since ")
        assert text.endswith(" and does not return from it")
        assert other.retries == Retries()
        assert not other.unfinished(time.monotonic(), 0.0)
        assert one_card.writes(OTHER, NUMVFS) == []
        await rig.reconciled_again(OTHER)
        assert other.phase is Phase.WAITING
        release.touch()
        await rig.until_phase(Phase.CONVERGED, PF, OTHER)

    converge(one_card, body, dying_s=0.1)
    waits = [record for record in caplog.records if "waiting: the kernel is busy" in record.message]
    assert sum(record.levelno == logging.WARNING for record in waits) == 1
    assert [len(one_card.tree.vfs(address)) for address in (PF, OTHER)] == [2, 2]


@pytest.mark.usefixtures("short", "unkillable")
def test_a_card_that_needs_no_vfs_made_does_not_wait_for_a_stuck_one(one_card: FakeKernel) -> None:
    one_card.tree.add_pf(PF)
    one_card.tree.add_pf(OTHER, vfs=2, interface="ens2")
    release = one_card.hang(PF, NUMVFS)

    async def body(rig: Rig) -> None:
        rig.mark_dirty(PF)
        await rig.until(lambda: rig.pf().phase is Phase.STUCK)
        rig.mark_dirty(OTHER)
        await rig.until_phase(Phase.CONVERGED, OTHER)
        release.touch()
        await rig.until_phase(Phase.CONVERGED, PF)

    converge(one_card, body, dying_s=0.1)


def test_a_reload_reaches_a_card_that_waits(one_card: FakeKernel) -> None:
    one_card.tree.add_pf(OTHER)

    async def body(rig: Rig) -> None:
        with token_of_another(one_card.tree.root, hangs=False):
            rig.mark_dirty(OTHER)
            await rig.until(lambda: rig.pf(OTHER).kernel_busy is not None)
            one_card.tree.policy("")
            rig.scheduler.set_policy(load(one_card.tree.root))
            await rig.until_phase(Phase.UNMANAGED, OTHER)

    converge(one_card, body)
    assert one_card.writes(OTHER, NUMVFS) == []


def test_a_card_that_is_pulled_out_waits_no_longer(one_card: FakeKernel) -> None:
    one_card.tree.add_pf(OTHER)

    async def body(rig: Rig) -> None:
        with token_of_another(one_card.tree.root, hangs=False):
            rig.mark_dirty(OTHER)
            await rig.until(lambda: rig.pf(OTHER).kernel_busy is not None)
            shutil.rmtree(one_card.tree.device(OTHER))
            rig.mark_dirty(OTHER)
            await rig.until(lambda: OTHER not in rig.scheduler.pfs)

    converge(one_card, body)


def test_a_card_that_waits_ends_with_the_service(one_card: FakeKernel) -> None:
    one_card.tree.add_pf(OTHER)

    async def body(rig: Rig) -> None:
        with token_of_another(one_card.tree.root, hangs=False):
            rig.mark_dirty(OTHER)
            await rig.until(lambda: rig.pf(OTHER).kernel_busy is not None)
            await rig.scheduler.stop(within_s=3.0)
            assert not rig.scheduler.working

    converge(one_card, body)


def test_the_next_card_begins_at_once(one_card: FakeKernel) -> None:
    for address in CARDS:
        one_card.tree.add_pf(address)
        one_card.slow_down(address, NUMVFS, 0.2)

    async def body(rig: Rig) -> None:
        await rig.converged(*CARDS)

    converge(one_card, body)
    writes = sorted(one_card.writes(file=NUMVFS), key=lambda write: write.began)
    gaps = sorted(later.began - earlier.ended for earlier, later in pairwise(writes))
    assert len(writes) == len(CARDS)
    assert gaps[len(gaps) // 2] < 0.15, gaps


def test_removal_and_creation_are_one_turn(one_card: FakeKernel) -> None:
    """Another card between them would keep the first without VFs."""
    for address in CARDS[:3]:
        one_card.tree.add_pf(address, vfs=1)
        one_card.slow_down(address, NUMVFS, 0.2)

    async def body(rig: Rig) -> None:
        await rig.converged(*CARDS[:3])

    converge(one_card, body)
    writes = sorted(one_card.writes(file=NUMVFS), key=lambda write: write.began)
    assert [write.text for write in writes] == ["0", "2"] * 3
    assert all(first.device == second.device for first, second in zip(writes[::2], writes[1::2], strict=True))


@contextmanager
def token_of_another(root: Path, *, hangs: bool) -> Iterator[None]:
    """As if another process had it."""
    token = NumvfsTokenFile(root)
    assert token.take(0.0)
    token.write(NumvfsOwner(PF, time.time(), time.monotonic() + (-1 if hangs else 60)))
    try:
        yield
    finally:
        token.free()


def test_a_single_write_is_refused_while_another_hangs(one_card: FakeKernel) -> None:
    step = SetNumvfs(OTHER, 0)
    text = f"cannot remove all VFs of {OTHER}: the kernel is busy with PF {PF}"
    turn = numvfs_turn.numvfs_turn(one_card.host, step, lambda report: None)
    with token_of_another(one_card.tree.root, hangs=True), pytest.raises(VfagentError, match=text), turn:
        pytest.fail("its turn has come")


def test_the_token_goes_to_who_waited_and_left_no_longer(tmp_path: Path) -> None:
    gone, waits = NumvfsTokenFile(tmp_path), NumvfsTokenFile(tmp_path)
    with token_of_another(tmp_path, hangs=False):
        assert not gone.take(0.05)
        assert not waits.take(0.05)
        gone.free()
    assert waits.take(5.0)
    assert not gone.take(0.05)
    waits.free()
    assert gone.take(5.0)
    gone.free()


def test_without_a_file_for_the_token_nobody_waits(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/vfagent").write_text("not a folder")
    token = NumvfsTokenFile(tmp_path)
    assert token.take(0.0)
    token.write(NumvfsOwner(PF, 0.0, 0.0))
    assert token.owner() is None
    token.free()


def test_a_damaged_token_names_nobody(tmp_path: Path) -> None:
    with token_of_another(tmp_path, hangs=False):
        path = tmp_path / "run/vfagent/numvfs"
        for text in ("", "{", "null", '{"pf": 1}', "[" * 100_000):
            path.write_text(text)
            assert NumvfsTokenFile(tmp_path).owner() is None


def is_locked(path: Path) -> bool:
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def on_this_host(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """For `vfagent apply` and `vfagent release`."""
    monkeypatch.setattr("vfagent.cli.main.require_own_host", lambda *_: None)
    for verb in ("apply", "release"):
        monkeypatch.setattr(f"vfagent.cli.{verb}.open_host", lambda root: kernel.host)


def test_apply_ends_with_what_it_could_do_while_another_hangs(
    one_card: FakeKernel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one_card.tree.add_pf(OTHER)
    on_this_host(one_card, monkeypatch)
    with token_of_another(one_card.tree.root, hangs=True):
        assert main(["apply", "--root", str(one_card.tree.root)]) == Exit.NOT_CONVERGED
    text = capsys.readouterr().err
    assert f"{OTHER}: waiting\n  the kernel is busy with PF {PF} since" in text
    assert one_card.writes(OTHER, NUMVFS) == []
    assert main(["apply", "--root", str(one_card.tree.root)]) == Exit.OK


def test_release_is_refused_while_another_hangs(
    one_card: FakeKernel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one_card.tree.add_pf(OTHER)
    root = str(one_card.tree.root)
    on_this_host(one_card, monkeypatch)
    assert main(["apply", "--root", root]) == Exit.OK
    with token_of_another(one_card.tree.root, hangs=True):
        assert main(["release", OTHER, "--root", root]) == Exit.ERROR
    assert f"cannot remove all VFs of {OTHER}: the kernel is busy with PF {PF}" in capsys.readouterr().err
    assert len(one_card.tree.vfs(OTHER)) == 2
    assert main(["release", OTHER, "--root", root]) == Exit.OK
    assert one_card.tree.vfs(OTHER) == []


def test_the_turn_of_a_release_may_come_later_than_a_step_may_take(
    one_card: FakeKernel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one_card.tree.add_pf(OTHER)
    root = str(one_card.tree.root)
    on_this_host(one_card, monkeypatch)
    assert main(["apply", "--root", root]) == Exit.OK
    monkeypatch.setattr("vfagent.cli.release._DEADLINE_S", 2.0)
    monkeypatch.setattr(numvfs_turn, "_CHECK_S", 0.1)
    monkeypatch.setattr(numvfs_turn, "_SIGN_OF_LIFE_S", 0.2)
    with token_of_another(one_card.tree.root, hangs=False):
        pass  # its text stays
    # Not in this process: the worker would inherit the lock.
    with subprocess.Popen(["flock", one_card.tree.root / "run/vfagent/numvfs", "sleep", "3"]) as owner:
        while not is_locked(one_card.tree.root / "run/vfagent/numvfs"):
            time.sleep(0.05)
        assert main(["release", OTHER, "--root", root]) == Exit.OK
        assert owner.wait(5) == 0
    assert f"waiting: the kernel is busy with PF {PF}" in capsys.readouterr().err
    assert one_card.tree.vfs(OTHER) == []
