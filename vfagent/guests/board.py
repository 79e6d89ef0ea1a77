# SPDX-License-Identifier: Apache-2.0
"""A guest's machine type and firmware, as QEMU and its descriptor files on this host have them."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path

from vfagent.guests.credentials import store_command
from vfagent.guests.spec.firmware import DESCRIPTORS, Firmware, chosen
from vfagent.guests.spec.qemu import MACHINE, QEMU, Guest
from vfagent.policy.types import GuestRule
from vfagent.store.guest_state import GuestFiles
from vfagent.store.host_files import HostFiles

_ANSWER_S = 20.0


def machine_of(root: Path, rule: GuestRule) -> str:
    """That of the rule, else that of its first start, else what QEMU means by `q35`."""
    return rule.machine or GuestFiles(root, rule.name).machine() or MACHINE


def keep_machine(root: Path, guest: Guest) -> None:
    """Keep what `q35` meant at the first start: with a newer QEMU it means another machine. Raises OSError.

    After the start, which it would delay by a run of QEMU. A restart by systemd reads the command again.
    """
    if guest.machine == MACHINE and (newest := _newest_machine(root)):
        GuestFiles(root, guest.rule.name).keep_machine(newest)
        store_command(root, replace(guest, machine=newest))


def _newest_machine(root: Path) -> str | None:
    """None where QEMU does not say."""
    command = [str(root / QEMU.lstrip("/")), "-machine", "help"]
    try:
        answer = subprocess.run(command, capture_output=True, timeout=_ANSWER_S, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    alias = re.search(rb"(?m)^q35 .*\(alias of (pc-q35-[a-z0-9.-]{1,40})\)", answer.stdout)
    return alias[1].decode() if alias else None


def firmware_of(root: Path, rule: GuestRule, machine: str) -> Firmware | None:
    """None with a BIOS, and where this host has none that fits."""
    if rule.firmware != "uefi":
        return None
    return chosen(descriptors(HostFiles(root)), machine, secure_boot=rule.secure_boot)


def descriptors(files: HostFiles) -> tuple[str, ...]:
    """The texts of the files, in the order of their names. An empty file disables one of the same name."""
    paths = {
        path.rpartition("/")[2]: path for folder in reversed(DESCRIPTORS) for path in files.matching(folder, "*.json")
    }
    return tuple(files.read(path) or "" for _, path in sorted(paths.items()))
