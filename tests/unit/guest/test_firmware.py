# SPDX-License-Identifier: Apache-2.0
"""Which firmware a guest gets, by QEMU's descriptor files."""

import json

import pytest

from tests.unit.guest.firmware import DEBIAN, FEDORA, descriptor
from vfagent.guests.spec.firmware import Firmware, chosen


def code(descriptors: tuple[str, ...], *, secure_boot: bool = False, machine: str = "pc-q35-7.2") -> str | None:
    firmware = chosen(descriptors, machine, secure_boot=secure_boot)
    return firmware.code.rpartition("/")[2] if firmware else None


def test_the_distributions_firmware_is_found() -> None:
    assert code(DEBIAN) == "OVMF_CODE_4M.fd"
    assert code(DEBIAN, secure_boot=True) == "OVMF_CODE_4M.ms.fd"
    assert code(DEBIAN, machine="q35") == "OVMF_CODE_4M.fd"
    assert chosen(FEDORA, "pc-q35-9.1", secure_boot=True) == Firmware(
        "/usr/share/edk2/ovmf/OVMF_CODE_4M.secboot.qcow2",
        "qcow2",
        "/usr/share/edk2/ovmf/OVMF_VARS_4M.secboot.qcow2",
        "qcow2",
        smm=True,
    )


def test_the_first_that_fits_is_taken() -> None:
    assert code((descriptor("/first.fd", "/vars.fd"), *DEBIAN)) == "first.fd"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100000,
        "[]",
        '{"interface-types": ["uefi"]}',
        descriptor("/a.fd", "/b.fd", mode="combined"),
        descriptor("/a.fd", "/b.fd").replace("x86_64", "aarch64"),
        descriptor("/a.fd", "/b.fd").replace("pc-q35-*", "microvm"),
        descriptor("/a.fd", "/b.fd").replace('"uefi"', '"bios"'),
        descriptor("/a.fd", "/b.fd").replace('"raw"', '"vmdk"'),
        descriptor("/a.fd", "/b.fd").replace('"acpi-s3"', "[]").replace("flash", "memory"),
        json.dumps({**json.loads(descriptor("/a.fd", "/b.fd")), "targets": [1, {"architecture": "x86_64"}]}),
    ],
)
def test_what_does_not_fit_or_is_no_descriptor_is_skipped(text: str) -> None:
    assert code((text,)) is None
    assert code((text, *DEBIAN)) == "OVMF_CODE_4M.fd"
