# SPDX-License-Identifier: Apache-2.0
"""Reconciles of PFs: their order, what causes them, drift, status and log."""

import asyncio
import errno
import shutil
import time
from dataclasses import replace

import pytest

from tests.host.fake_kernel import FakeKernel, by_card, overlap
from tests.host.leaks import children
from tests.host.scheduler_rig import NUMVFS, OTHER, PF, POLICY, SIBLING, VLAN_POLICY, Rig, converge
from tests.host.tree import put
from vfagent.kernel.protocols import Host
from vfagent.model.inventory import Pf
from vfagent.model.pci import PciAddress
from vfagent.model.status import Phase
from vfagent.model.vf_settings import Vlan
from vfagent.reconcile import rounds
from vfagent.reconcile.observe import observe_pf
from vfagent.store.policy_files import load

pytestmark = pytest.mark.usefixtures("info_level")


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
    """Also when it is requested during a reconcile. The loop's clock is slow: other requests wait for ten seconds."""
    kernel_files.tree.add_pf(PF)

    async def body(rig: Rig) -> None:
        rig.scheduler.mark_dirty(PF, now=True)
        await rig.until_phase(Phase.CONVERGED, PF)
        slow_observation(monkeypatch, 0.4)
        rig.scheduler.mark_dirty(PF, now=True)
        await rig.idle()  # after this one the PF rests
        rounds, clock = rig.pf().progress.rounds, asyncio.get_running_loop().time
        began = clock()
        rig.mark_dirty(PF)
        await asyncio.sleep(0.05)
        assert not rig.pf().reconciling
        rig.scheduler.mark_dirty(PF, now=True)
        await rig.until(lambda: rig.pf().reconciling)
        rig.scheduler.mark_dirty(PF, now=True)
        await rig.until(lambda: rig.pf().progress.rounds == rounds + 2)
        assert clock() - began < 1.0

    converge(kernel_files, body, speed=0.1)


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
