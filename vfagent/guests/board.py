# SPDX-License-Identifier: Apache-2.0
"""A guest's machine type and firmware, as QEMU and its descriptor files on this host have them."""

import re
import subprocess
from pathlib import Path

from vfagent.guests.spec.firmware import DESCRIPTORS, Firmware, chosen
from vfagent.guests.spec.qemu import MACHINE, QEMU
from vfagent.policy.types import GuestRule
from vfagent.store.guest_state import GuestFiles
from vfagent.store.host_files import HostFiles

_ANSWER_S = 20.0


def kept_machine(root: Path, rule: GuestRule) -> str:
    """That of the rule, else that of its first start."""
    return rule.machine or GuestFiles(root, rule.name).machine() or MACHINE


def machine_of(root: Path, rule: GuestRule) -> str:
    """As kept_machine(). What `q35` means at the first start is kept: with a newer QEMU it means another machine.

    Raises OSError.
    """
    machine = kept_machine(root, rule)
    if machine == MACHINE and rule.machine is None and (newest := _newest_machine(root)):
        GuestFiles(root, rule.name).keep_machine(newest)
        return newest
    return machine


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
