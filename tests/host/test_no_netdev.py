# SPDX-License-Identifier: Apache-2.0
"""A PF that shows no netdev: how long the service waits for one, and what it does without."""

import asyncio
from pathlib import Path

import pytest

from tests.host.fake_kernel import FakeKernel
from tests.host.scheduler_rig import PF, POLICY, VLAN_POLICY, Rig, converge
from vfagent.kernel.udev import QUEUE
from vfagent.model.status import Phase
from vfagent.model.vf_settings import Vlan
from vfagent.plan import no_netdev
from vfagent.reconcile.observe import observe_pf

BY_NAME = POLICY.replace('driver = "igb"', 'interface = "ens*"', 1)


@pytest.fixture
def kernel_files(tmp_path: Path) -> FakeKernel:
    """A NIC whose driver has made no netdev."""
    kernel = FakeKernel(tmp_path)
    kernel.tree.policy(POLICY)
    kernel.tree.add_pf(PF)
    kernel.tree.add_device(PF, **{"class": "0x020000"})
    return kernel


async def waits(rig: Rig) -> None:
    rig.scheduler.mark_dirty(PF, now=True)
    await rig.until(lambda: rig.pf().known and not rig.pf().reconciling)
    assert rig.pf().phase is Phase.WAITING


def test_vfs_are_made_without_a_netdev_after_the_grace_and_one_reconcile(kernel_files: FakeKernel) -> None:
    async def body(rig: Rig) -> None:
        began = asyncio.get_running_loop().time()
        await waits(rig)
        rounds = rig.pf().progress.rounds
        await rig.until(lambda: bool(kernel_files.tree.vfs(PF)))
        assert asyncio.get_running_loop().time() - began > no_netdev.NETDEV_GRACE_S
        await rig.until_phase(Phase.CONVERGED, PF)
        assert rig.pf().progress.rounds == rounds + 3  # made, bound, found to hold
        assert rig.pf().grace.check is None

    converge(kernel_files, body, speed=10)


def test_the_grace_lasts_while_udev_may_load_a_module_for_the_netdev(kernel_files: FakeKernel) -> None:
    async def body(rig: Rig) -> None:
        await waits(rig)
        queue = kernel_files.tree.root / QUEUE
        queue.parent.mkdir(parents=True, exist_ok=True)
        queue.touch()
        await asyncio.sleep(1.5)  # 30 s of the loop
        assert not kernel_files.tree.vfs(PF)
        queue.unlink()
        await rig.until_phase(Phase.CONVERGED, PF)

    converge(kernel_files, body, speed=20)


def test_settings_follow_when_the_netdev_comes_after_the_grace(kernel_files: FakeKernel) -> None:
    kernel_files.tree.policy(VLAN_POLICY)

    async def body(rig: Rig) -> None:
        await waits(rig)
        await rig.until_phase(Phase.FAILED, PF)
        assert [str(problem) for problem in rig.pf().plan.problems] == [
            f"vf{index}: vlan 10 cannot be set: the PF has no netdev" for index in range(2)
        ]
        kernel_files.tree.add_netdev("ens1", PF)
        await rig.converged(PF)
        settings = [kernel_files.settings(PF, index) for index in range(2)]
        assert [vf and vf.vlan for vf in settings] == [Vlan(10)] * 2

    converge(kernel_files, body, speed=20)


def test_a_card_that_no_rule_can_be_for_is_not_waited_for_after_the_grace(kernel_files: FakeKernel) -> None:
    kernel_files.tree.policy(BY_NAME)

    async def body(rig: Rig) -> None:
        await waits(rig)
        await rig.until_phase(Phase.UNMANAGED, PF)
        kernel_files.tree.add_netdev("ens1", PF)
        await rig.converged(PF)

    converge(kernel_files, body, speed=20)


@pytest.mark.parametrize("driver", ["cxgb4", "nicpf", "pci-pf-stub"])
def test_a_card_that_never_has_a_netdev_is_unmanaged_at_once(kernel_files: FakeKernel, driver: str) -> None:
    kernel_files.tree.policy(BY_NAME)
    kernel_files.tree.bind(PF, None)
    kernel_files.tree.bind(PF, driver)

    async def body(rig: Rig) -> None:
        rig.scheduler.mark_dirty(PF, now=True)
        await rig.until(lambda: rig.pf().known and not rig.pf().reconciling)
        assert rig.pf().phase is Phase.UNMANAGED
        assert rig.phases[PF] == [Phase.UNMANAGED] * len(rig.phases[PF])

    converge(kernel_files, body)


def test_a_pf_in_another_network_namespace_is_left_alone(kernel_files: FakeKernel) -> None:
    (kernel_files.tree.device(PF) / "net").mkdir()

    async def body(rig: Rig) -> None:
        await waits(rig)
        assert rig.pf().grace.check is None
        assert "in another network namespace" in rig.pf().plan.waiting[0]
        kernel_files.tree.add_netdev("ens1", PF)  # it comes back
        await rig.converged(PF)

    converge(kernel_files, body)


def test_a_netdev_is_away_where_its_folder_is_empty(kernel_files: FakeKernel) -> None:
    def away() -> bool:
        pf = observe_pf(kernel_files.host, PF)
        assert pf is not None
        return pf.netdev_away

    assert not away()
    virtio = kernel_files.tree.device(PF) / "virtio2"
    (virtio / "net").mkdir(parents=True)
    assert away()
    (virtio / "net").rmdir()
    (kernel_files.tree.device(PF) / "net").mkdir()
    assert away()
    kernel_files.tree.add_netdev("ens1", PF)
    assert not away()
