# SPDX-License-Identifier: Apache-2.0
"""How doctor reads kernel log lines, configuration space, ROMs and netplan files."""

import pytest

from tests.unit.doctor.hosts import config_space, rom
from vfagent.doctor.checks.kernel_log import KNOWN_LINES
from vfagent.doctor.checks.other_managers import blocks
from vfagent.doctor.pci_config import total_vfs
from vfagent.guests.spec.rom import RomImage, rom_images

# As kernels wrote them: 4.19, 6.1, 6.12, ice, the firmware loader, vfio.
LINES = [
    ("igb 0000:01:00.0: not enough MMIO resources for SR-IOV", "bar-space"),
    ("ixgbe 0000:04:00.0: SR-IOV: bus number out of range", "bus-numbers"),
    ("mlx5_core 0000:3b:00.0: can't enable 64 VFs (bus 3d out of range of [bus 3b-3c])", "bus-numbers"),
    ("pci 0000:01:00.0: BAR 7: no space for [mem size 0x00100000 64bit pref]", "bar-space"),
    ("pci 0000:01:00.0: BAR 10: failed to assign [mem size 0x00100000 64bit pref]", "bar-space"),
    ("pci 0000:01:00.0: VF BAR 0 [mem size 0x00100000 64bit pref]: can't assign; no space", "bar-space"),
    ("pci 0000:01:00.0: VF BAR 3 [mem size 0x00100000 64bit pref]: failed to assign", "bar-space"),
    ("ice 0000:b1:00.0: Not enough device MSI-X vectors, requested = 512, available = 0", "no-vectors"),
    ("ice 0000:b1:00.0: only 0 MSI-X interrupts available for SR-IOV. Not enough to support 8 VFs", "no-vectors"),
    ("bnxt_en 0000:5e:00.0: Direct firmware load for bnxt/x.bin failed with error -2", "firmware-file"),
    (
        "ice 0000:b1:00.0: The DDP package file was not found or could not be read. Entering Safe Mode",
        "ice-safe-mode",
    ),
    ("ice 0000:b1:00.0: The DDP package file is invalid. Entering Safe Mode.", "ice-safe-mode"),
    ("ice 0000:b1:00.0: SR-IOV cannot be configured - Device is in Safe Mode", "ice-safe-mode"),
    ("vfio-pci 0000:01:10.0: not ready 65535ms after FLR; giving up", "reset-failed"),
    ("vfio-pci 0000:01:10.0: not ready 1023ms after FLR; waiting", None),
    (
        "igb 0000:01:00.0: AER: PCIe Bus Error: severity=Uncorrected (Non-Fatal), type=Transaction Layer",
        "pcie-errors",
    ),
    (
        "ixgbe 0000:01:00.0: PCIe Bus Error: severity=Uncorrectable (Fatal), type=Transaction Layer, (Receiver ID)",
        "pcie-errors",
    ),
    ("xhci_hcd 0000:3e:00.0: AER: can't recover (no error_detected callback)", "pcie-errors"),
    (
        "igb 0000:01:00.0: PCIe Bus Error: severity=Corrected, type=Physical Layer, (Receiver ID)",
        "pcie-corrected",
    ),
    ("pcieport 0000:00:1c.0: AER: Corrected error received: 0000:01:00.0", None),
    ("vfio-pci 0000:01:10.0: BAR 0: can't reserve [mem 0xf0000000-0xf0003fff 64bit]", "vf-registers"),
    # A PF's own BARs, and successes.
    ("pci 0000:01:00.0: BAR 0: no space for [mem size 0x00100000 64bit pref]", None),
    ("pci 0000:01:00.0: VF BAR 0 [mem 0x100000-0x1fffff 64bit pref]: assigned", None),
    ("igb 0000:01:00.0: 7 VFs allocated", None),
]


@pytest.mark.parametrize(("line", "check"), LINES)
def test_a_kernel_log_line_is_recognized_by_its_text(line: str, check: str | None) -> None:
    checks = [kind.check for kind in KNOWN_LINES if kind.pattern.search(f"[   12.345678] {line}")]
    assert checks == ([check] if check else [])


@pytest.mark.parametrize("count", [0, 1, 7, 256])
def test_the_sriov_capability_is_found_after_another(count: int) -> None:
    assert total_vfs(config_space(count)) == count


def test_a_missing_sriov_capability_is_not_zero_vfs() -> None:
    assert total_vfs(config_space(None)) is None
    assert total_vfs(config_space(7)[:64]) is None
    assert total_vfs(b"") is None


def test_a_circular_list_of_capabilities_ends() -> None:
    space = bytearray(config_space(None))
    space[0x100:0x104] = (0x0001 | 1 << 16 | 0x100 << 20).to_bytes(4, "little")
    assert total_vfs(bytes(space)) is None
    assert total_vfs(b"\xff" * 4096) is None


def test_a_rom_names_its_device_and_its_firmware() -> None:
    (image,) = rom_images(rom("8086:10ca"))
    assert image == RomImage(0x8086, 0x10CA, 0)
    assert image.hardware == "8086:10ca"
    assert image.runs_under("bios")
    assert not image.runs_under("uefi")


def test_every_image_of_a_rom_is_read() -> None:
    first = bytearray(rom("8086:10ca"))
    first[0x1C + 0x15] = 0  # not the last
    assert [image.code for image in rom_images(bytes(first) + rom("8086:10ca", code=3))] == [0, 3]


@pytest.mark.parametrize(
    "content", [b"", b"\x55\xaa", b"\x55\xaa" * 300, rom("8086:10ca")[:40], b"\x7fELF" + b"\0" * 600]
)
def test_a_file_that_is_not_a_rom_has_no_images(content: bytes) -> None:
    assert rom_images(content) == ()


def test_a_netplan_definition_ends_where_the_next_begins() -> None:
    text = "network:\n  ethernets:\n    ens1:\n      mtu: 9000\n    'ens2':\n      link: ens1\n  version: 2\n"
    definitions = dict(blocks(text))
    assert definitions["ens1"].split() == ["mtu:", "9000"]
    assert definitions["ens2"].split() == ["link:", "ens1"]
