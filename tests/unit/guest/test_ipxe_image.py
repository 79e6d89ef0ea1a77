# SPDX-License-Identifier: Apache-2.0
"""What is read from an iPXE image, and how a guest boots with it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.guest.hosts import PF, policy_of
from tests.unit.guest.ipxe_images import bios_image, efi_image
from vfagent.guests.ipxe_images import images_for, read_image
from vfagent.guests.spec.boot import IPXE_IMAGES, Boot, Loader, boot_of
from vfagent.guests.spec.ipxe_image import UPSTREAM, Ability, image_of

IGBVF, X710 = "8086:10ca", "8086:154c"
IPXE = '[guest.ipxe]\naddress = "192.168.10.10/24"\nsanboot = "iscsi:192.168.10.1::::iqn.2016-01.com.example:a"\n'
KERNEL = '[guest.kernel]\nimage = "/k"\n'
EVERYTHING = (b"<CMDLINE>", b"san-filename", b"vcreate")
KINDS = pytest.mark.parametrize(("firmware", "build"), [("bios", bios_image), ("uefi", efi_image)])


def root_with(folder: Path, firmware: str, content: bytes | None) -> Path:
    (folder / "usr/bin").mkdir(parents=True)
    if content is not None:
        path = folder / IPXE_IMAGES[firmware].lstrip("/")
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    return folder


def boot(folder: Path, hardware: str, firmware: str, *tables: str, head: str = "") -> Boot:
    text = PF.format(name="a", pci="*") + f'[[guest]]\nname = "x"\nvfs = ["a:0"]\nfirmware = "{firmware}"\n{head}'
    rule = policy_of(folder, text + "".join(tables)).guest[0]
    return boot_of(rule, (hardware,), images_for((rule,), folder))


@KINDS
def test_an_image_tells_its_devices_and_abilities(firmware: str, build: Callable[..., bytes]) -> None:
    image = image_of(build((IGBVF, "1af4:1041"), *EVERYTHING))
    assert image
    assert {IGBVF, "1af4:1041"} <= image.devices
    assert X710 not in image.devices
    assert image.abilities == set(Ability), firmware


@KINDS
def test_an_older_image_has_fewer_abilities(firmware: str, build: Callable[..., bytes]) -> None:
    image = image_of(build((IGBVF,), b"san-filename"))
    assert image
    assert image.abilities == {Ability.FILENAME}, firmware


@pytest.mark.parametrize("content", [b"", b"MZ", b"\0" * 40000, b"#!ipxe\n", bios_image(())[:5000], b"MZ" + b"\0" * 80])
def test_what_is_no_image_is_none(content: bytes) -> None:
    assert image_of(content) is None


@KINDS
def test_the_kernel_is_used_where_this_image_has_no_driver(
    tmp_path: Path, firmware: str, build: Callable[..., bytes]
) -> None:
    root = root_with(tmp_path, firmware, build((IGBVF,), *EVERYTHING))
    assert boot(root, IGBVF, firmware, IPXE, KERNEL).loader is Loader.IMAGE
    assert boot(root, X710, firmware, IPXE, KERNEL).loader is Loader.KERNEL
    problem = boot(root, X710, firmware, IPXE).problem or ""
    assert problem.startswith(f"iPXE's image {IPXE_IMAGES[firmware]} has no driver for VFs {X710}")


def test_an_image_that_runs_no_script_under_uefi_boots_nothing(tmp_path: Path) -> None:
    root = root_with(tmp_path, "uefi", efi_image((IGBVF,), b"san-filename"))
    assert "cannot run a script under UEFI" in (boot(root, IGBVF, "uefi", IPXE).problem or "")
    assert boot(root, IGBVF, "uefi", IPXE, KERNEL).loader is Loader.KERNEL


def test_without_an_image_the_kernel_is_used_or_the_package_is_named(tmp_path: Path) -> None:
    root = root_with(tmp_path, "bios", None)
    assert read_image(root, "bios") is None
    assert boot(root, IGBVF, "bios", IPXE, KERNEL).loader is Loader.KERNEL
    assert boot(root, IGBVF, "bios", IPXE) == Boot(Loader.IMAGE, boot(root, IGBVF, "bios", IPXE).script)


def test_an_image_that_cannot_be_read_is_taken_for_upstreams(tmp_path: Path) -> None:
    assert read_image(root_with(tmp_path / "a", "bios", b"another format"), "bios") == UPSTREAM
    copy = tmp_path / "copy"
    copy.mkdir()
    assert read_image(copy, "bios") == UPSTREAM
