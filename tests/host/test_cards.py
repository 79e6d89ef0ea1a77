# SPDX-License-Identifier: Apache-2.0
"""Which PFs are on one card, and so are reconciled in turn: with ARI it has more than eight functions."""

from tests.host.fake_kernel import FakeKernel, overlap
from tests.host.scheduler_rig import NUMVFS, Rig, converge
from tests.host.test_preload import known_to_udev
from tests.host.test_preload import load as preload
from vfagent.model.pci import PciAddress

SEVENTH, EIGHTH = PciAddress("0000:3b:00.7"), PciAddress("0000:3b:01.0")


def with_ari(kernel: FakeKernel, *addresses: PciAddress, ari: bool = True) -> None:
    for address in addresses:
        kernel.tree.add_device(address, ari_enabled=str(int(ari)))


def at_once(kernel: FakeKernel, first: PciAddress, second: PciAddress) -> bool:
    """Whether both PFs' writes of sriov_numvfs were in the kernel at the same time."""
    for address in (first, second):
        kernel.tree.add_pf(address)
        kernel.slow_down(address, NUMVFS, 0.5)

    async def body(rig: Rig) -> None:
        await rig.converged(first, second)

    converge(kernel, body)
    writes = kernel.writes(file=NUMVFS)
    assert {write.device for write in writes} == {first, second}
    return overlap(writes)


def test_functions_7_and_8_of_a_card_never_write_numvfs_at_once(kernel_files: FakeKernel) -> None:
    with_ari(kernel_files, SEVENTH, EIGHTH)
    assert not at_once(kernel_files, SEVENTH, EIGHTH)


def test_devices_of_one_bus_without_ari_are_two_cards(kernel_files: FakeKernel) -> None:
    """As the endpoints that are built into a root complex."""
    with_ari(kernel_files, SEVENTH, EIGHTH, ari=False)
    assert at_once(kernel_files, SEVENTH, EIGHTH)


def test_cards_with_ari_on_two_buses_are_two_cards(kernel_files: FakeKernel) -> None:
    other = PciAddress("0000:3c:00.0")
    with_ari(kernel_files, SEVENTH, other)
    assert at_once(kernel_files, SEVENTH, other)


def test_of_functions_7_and_8_only_one_is_preloaded(kernel_files: FakeKernel) -> None:
    with_ari(kernel_files, SEVENTH, EIGHTH)
    known_to_udev(kernel_files, SEVENTH)
    known_to_udev(kernel_files, EIGHTH)
    assert len(preload(kernel_files).workers) == 1
