# SPDX-License-Identifier: Apache-2.0
"""What a guest keeps on disk: its machine type and its UEFI variables; and where the firmware is looked up."""

import os
import re
import stat
from pathlib import Path

import pytest

from tests.host.tree import put
from tests.unit.guest.firmware import DEBIAN, descriptor
from vfagent.guests.board import firmware_of, keep_machine, machine_of
from vfagent.guests.credentials import store_command
from vfagent.guests.spec.boot import Boot, Loader
from vfagent.guests.spec.qemu import Guest
from vfagent.policy.types import GuestRule
from vfagent.store.guest_state import GuestFiles, close_folder


def qemu(root: Path, newest: str) -> None:
    program = root / "usr/bin/qemu-system-x86_64"
    put(program, f"#!/bin/sh\ntest \"$*\" = '-machine help' && echo 'q35    Standard PC (Q35) (alias of {newest})'\n")
    program.chmod(0o755)


def rule(**keys: object) -> GuestRule:
    return GuestRule(name="x", **keys)  # type: ignore[arg-type]


def started(root: Path, name: str = "x", **keys: object) -> str:
    """The machine of the first command, and of the one for its restarts by systemd."""
    rule = GuestRule(name=name, **keys)  # type: ignore[arg-type]
    guest = Guest(rule, (), Boot(Loader.DISK), kvm=True, uuid="u", machine=machine_of(root, rule))
    store_command(root, guest)
    keep_machine(root, guest)
    command = (root / f"run/vfagent/credentials/{name}/command").read_text()
    restarted = re.search("-machine ([^,]*),", command)
    assert restarted is not None
    return f"{guest.machine}, {restarted[1]}"


def test_a_machine_type_stays_with_its_guest(tmp_path: Path) -> None:
    qemu(tmp_path, "pc-q35-7.2")
    assert started(tmp_path) == "q35, pc-q35-7.2"
    qemu(tmp_path, "pc-q35-10.0")
    assert started(tmp_path) == "pc-q35-7.2, pc-q35-7.2"
    assert started(tmp_path, machine="pc-q35-9.0") == "pc-q35-9.0, pc-q35-9.0"
    assert started(tmp_path, "y") == "q35, pc-q35-10.0"


@pytest.mark.parametrize("kept", ["", "{", '"pc-q35-7.2,kernel=/etc/shadow"', "[]"])
def test_a_machine_type_that_is_none_is_asked_for_again(tmp_path: Path, kept: str) -> None:
    put(tmp_path / "var/lib/vfagent/guests/x/machine.json", kept)
    qemu(tmp_path, "pc-q35-10.0")
    assert started(tmp_path) == "q35, pc-q35-10.0"


def test_a_qemu_that_does_not_say_has_q35(tmp_path: Path) -> None:
    assert started(tmp_path) == "q35, q35"
    put(tmp_path / "usr/bin/qemu-system-x86_64", "")
    assert started(tmp_path) == "q35, q35"


def test_a_descriptor_in_etc_comes_before_that_of_the_same_name(tmp_path: Path) -> None:
    for number, text in enumerate(DEBIAN):
        put(tmp_path / f"usr/share/qemu/firmware/{number}.json", text)
    uefi = rule(firmware="uefi")
    assert (firmware := firmware_of(tmp_path, uefi, "q35")) is not None
    assert firmware.code == "/usr/share/OVMF/OVMF_CODE_4M.fd"
    put(tmp_path / "etc/qemu/firmware/2.json", descriptor("/opt/own.fd", "/opt/vars.fd"))
    assert (firmware := firmware_of(tmp_path, uefi, "q35")) is not None
    assert firmware.code == "/opt/own.fd"
    put(tmp_path / "etc/qemu/firmware/2.json", "")
    assert firmware_of(tmp_path, uefi, "q35") is None
    assert firmware_of(tmp_path, rule(), "q35") is None


def test_a_guest_keeps_its_variables_and_has_others_for_another_firmware(tmp_path: Path) -> None:
    put(tmp_path / "usr/share/OVMF/VARS.fd", "empty")
    put(tmp_path / "usr/share/OVMF/VARS.ms.fd", "with keys")
    files = GuestFiles(tmp_path, "x")
    own = tmp_path / files.variables("/usr/share/OVMF/VARS.fd").lstrip("/")
    own.write_text("boot entries")
    assert files.variables("/usr/share/OVMF/VARS.fd") == "/var/lib/vfagent/guests/x/VARS.fd"
    assert own.read_text() == "boot entries"
    assert (tmp_path / files.variables("/usr/share/OVMF/VARS.ms.fd").lstrip("/")).read_text() == "with keys"
    assert os.listdir(own.parent) != ["VARS.fd"]


@pytest.mark.parametrize("first", ["machine", "variables"])
def test_variables_are_open_to_the_guests_user_in_a_closed_folder(tmp_path: Path, first: str) -> None:
    """Whose number is known only once it runs."""
    put(tmp_path / "vars.fd", "x")
    files = GuestFiles(tmp_path, "x")
    if first == "machine":
        files.keep_machine("pc-q35-7.2")
    own = tmp_path / files.variables("/vars.fd").lstrip("/")
    assert stat.S_IMODE(own.stat().st_mode) == 0o666
    assert stat.S_IMODE(own.parent.stat().st_mode) == 0o700


def test_a_folder_that_systemd_has_made_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "tpm"
    for _ in range(2):
        close_folder(folder)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        folder.chmod(0o755)
