# SPDX-License-Identifier: Apache-2.0
"""Checks between the keys of one [[guest]] rule."""

import re
from collections.abc import Iterator

from vfagent.policy import strings
from vfagent.policy.boot_checks import check_initiator, check_ipxe, check_kernel
from vfagent.policy.disk_uses import one_disk_for_each
from vfagent.policy.hidden_paths import check_hidden_paths
from vfagent.policy.iscsi import iscsi_partition
from vfagent.policy.nic_checks import check_nics
from vfagent.policy.problems import Problem, quoted
from vfagent.policy.references import INDEX_MARK, VfReference, texts_of, vf_reference
from vfagent.policy.source_locations import Location
from vfagent.policy.strings import VNC_SOCKET
from vfagent.policy.types import GuestRule, SeedRule

_MARK = INDEX_MARK
_OTHER_MARK = re.compile(r"(?i)(?<![${])\{\s*(?!(?-i:index)\})(?:index|vf|vf_?index|number|name)\b(?!\s*:\s)[^{}]*\}")
_NAME = "[a-z0-9][a-z0-9_-]{0,31}"
_MOST_DEVICES = 29
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def check_guest(rule: GuestRule, at: Location) -> Iterator[Problem]:
    yield from _check_name(rule, at)
    yield from _index_marks(rule, at)
    if rule.each is None and not (rule.vfs or rule.nic):
        yield (at / "vfs").problem("found no VF, allowed is at least one in vfs, or each, or a [[guest.nic]]")
    yield from check_nics(rule, at, several=_makes_several(rule))
    yield from _check_boot_methods(rule, at)
    yield from _check_firmware(rule, at)
    yield from _check_memory_max(rule, at)
    yield from _check_numa(rule, at)
    yield from _check_slots(rule, at)
    yield from _check_vnc(rule, at)
    if rule.chap and not (rule.ipxe or rule.kernel):
        yield (at / "chap").problem("found chap without an iSCSI disk, allowed is with ipxe or kernel")
    if rule.ipxe:
        yield from check_ipxe(rule, rule.ipxe, at / "ipxe")
        yield from _unique_address(rule, rule.ipxe.address, at / "ipxe" / "address")
    if rule.kernel:
        yield from check_kernel(rule, rule.kernel, at / "kernel")
        yield from _unique_address(rule, rule.kernel.address, at / "kernel" / "address")
    yield from check_initiator(rule, at)
    yield from _check_restart(rule, at)
    yield from _check_disks(rule, at)
    yield from check_hidden_paths(rule, at)


def _check_name(rule: GuestRule, at: Location) -> Iterator[Problem]:
    location = at / "name"
    if rule.each is None:
        if _MARK in rule.name:
            yield location.problem(f"found {quoted(rule.name)} without each, allowed is {_MARK} only with each")
        return
    if _MARK not in rule.name:
        such = quoted(f"{rule.name}-{_MARK}")
        text = f"found {quoted(rule.name)} for several guests, allowed is a name with {_MARK}, such as {such}"
        yield location.problem(text)
        return
    indices = vf_reference(rule.each).indices
    ranges = indices.ranges if indices and indices.ranges else ()
    last = max((high for _, high in ranges), default=0)
    longest = rule.name.replace(_MARK, str(last))
    if not re.fullmatch(_NAME, longest):
        text = f"found {quoted(rule.name)}, which gives {quoted(longest)}, allowed are at most 32 characters"
        yield location.problem(text)


def _index_marks(rule: GuestRule, at: Location) -> Iterator[Problem]:
    """`{index}` needs `each`; guests that write to their disks need one disk each."""
    for location, text in texts_of(rule, at):
        if rule.each is None and _MARK in text and location != at / "name":
            yield location.problem(f"found {_MARK} without each, allowed is {_MARK} only with each")
        other = _OTHER_MARK.search(text)
        if other and (rule.each or "index" in other[0].lower()):
            yield location.problem(f"found {quoted(other[0])}, which no index replaces, allowed is {_MARK}")
    if rule.each is not None:
        yield from _flow_style(rule.seed, at / "seed")
    if not _makes_several(rule):
        return
    for name, display in (("vnc", rule.vnc), ("vnc_remote", rule.vnc_remote)):
        if display not in (None, VNC_SOCKET) and _MARK not in (display or ""):
            yield (at / name).problem(f"found one display for several guests, allowed is a display with {_MARK}")
    for name, boot in (("ipxe", rule.ipxe), ("kernel", rule.kernel)):
        if boot and boot.initiator and _MARK not in boot.initiator:
            text = f"found one initiator for several guests, allowed is a name with {_MARK}"
            yield (at / name / "initiator").problem(text)
    yield from one_disk_for_each(rule, at)


def _flow_style(seed: SeedRule | None, at: Location) -> Iterator[Problem]:
    """YAML's `{index}` is a mapping: only in block style is it plain which braces stand for a number."""
    for location, text in texts_of(seed, at):
        if re.match(r"\s*(?:\[|\{(?!index\}))", text):
            allowed = f"allowed is block style, a key a line, or a file: with each, {_MARK} is replaced in the text"
            yield location.problem(f"found YAML in flow style, {quoted(text.lstrip()[:1])}, {allowed}")


def _makes_several(rule: GuestRule) -> bool:
    if rule.each is None:
        return False
    indices = vf_reference(rule.each).indices
    return indices is None or indices.ranges is None or sum(high - low + 1 for low, high in indices.ranges) > 1


def _unique_address(rule: GuestRule, address: str | None, at: Location) -> Iterator[Problem]:
    if address not in (None, "dhcp") and _makes_several(rule):
        yield at.problem(f'found {quoted(address or "")} for several guests, allowed is "dhcp"')


def vf_references(rule: GuestRule, at: Location) -> Iterator[tuple[Location, VfReference]]:
    """The VFs a rule names, each with its location."""
    if rule.each:
        yield at / "each", vf_reference(rule.each)
    for number, text in enumerate(rule.vfs):
        yield at / "vfs" / number, vf_reference(text)


def _check_boot_methods(rule: GuestRule, at: Location) -> Iterator[Problem]:
    """Disks may stand beside the two others: they are then data, or what the kernel's command line names."""
    if not (rule.ipxe or rule.kernel or rule.disk):
        yield at.problem(
            'found no boot method, allowed is one of ipxe, kernel and disk, such as [guest.ipxe] with address = "dhcp"'
        )
    elif rule.ipxe and rule.kernel and rule.ipxe.loader != "auto":
        allowed = 'with "auto", which falls back to the kernel'
        yield (at / "kernel").problem(f'found a kernel with ipxe.loader = "{rule.ipxe.loader}", allowed is {allowed}')


def _check_firmware(rule: GuestRule, at: Location) -> Iterator[Problem]:
    if rule.secure_boot and rule.firmware != "uefi":
        yield (at / "secure_boot").problem('found secure boot without UEFI, allowed is with firmware = "uefi"')
    elif rule.secure_boot and rule.ipxe:
        yield (at / "secure_boot").problem(
            "found secure boot with ipxe, allowed is without: distributions' iPXE is not signed"
        )
    if rule.ipxe and rule.ipxe.filename and (rule.firmware != "uefi" or rule.ipxe.sanboot is None):
        text = 'found a file name, allowed is one with firmware = "uefi" and sanboot'
        yield (at / "ipxe" / "filename").problem(text)


def _check_restart(rule: GuestRule, at: Location) -> Iterator[Problem]:
    if rule.restart == "on-watchdog":
        text = (
            'found "on-watchdog", allowed is "on-failure" or another: QEMU sends systemd no watchdog messages, so that'
            " the guest would never be restarted"
        )
        yield (at / "restart").problem(text)


def _check_disks(rule: GuestRule, at: Location) -> Iterator[Problem]:
    for number, disk in enumerate(rule.disk):
        if disk.shared and disk.format != "raw" and not disk.readonly:
            text = f'found shared = true with format "{disk.format}", allowed is with "raw": two QEMUs would destroy it'
            yield (at / "disk" / number / "shared").problem(text)
        if (part := iscsi_partition(disk.path)) is not None:
            text = f"found {quoted(part)} of an iSCSI disk, allowed is the whole disk, the same name without {part}"
            yield (at / "disk" / number / "path").problem(text)


def _check_vnc(rule: GuestRule, at: Location) -> Iterator[Problem]:
    if rule.vnc is not None and rule.vnc_remote is not None:
        yield (at / "vnc_remote").problem("found vnc_remote with vnc, allowed is one of them")
    if rule.vnc_remote is not None and rule.vnc_password is None:
        text = f"found nothing with vnc_remote, allowed is {strings.PATH.allowed}: other hosts can open the screen"
        yield (at / "vnc_password").problem(text)
    if rule.vnc_password is not None and rule.vnc is None and rule.vnc_remote is None:
        yield (at / "vnc_password").problem("found a password without a screen, allowed is with vnc or vnc_remote")


def _check_memory_max(rule: GuestRule, at: Location) -> Iterator[Problem]:
    """VFIO pins all of the guest's memory, which counts as the unit's, but for huge pages."""
    page, mib = ("1G", 1024) if rule.hugepages == "1G" else ("2M", 2)
    if rule.hugepages and rule.memory_mib % mib:
        text = f"found {rule.memory_mib}M with huge pages of {page}, allowed is a multiple of {page}"
        yield (at / "memory").problem(text)
    for name, value in () if rule.hugepages else rule.unit:
        size = re.fullmatch("([0-9]+)([KMGT]?)", str(value)) if name in ("MemoryHigh", "MemoryMax") else None
        if size and int(size[1]) * _UNITS[size[2]] < rule.memory_mib << 20:
            text = f"found {quoted(str(value))}, allowed is more than the guest's memory, {rule.memory_mib}M"
            yield (at / "unit" / name).problem(text)


def _check_numa(rule: GuestRule, at: Location) -> Iterator[Problem]:
    by_hand = next((name for name, _ in rule.unit if name in ("NUMAPolicy", "NUMAMask", "AllowedMemoryNodes")), None)
    if rule.numa != "prefer" and by_hand:
        yield (at / "numa").problem(f'found "{rule.numa}" with {by_hand} in its unit, allowed is one of them')
    if rule.numa == "strict" and not (rule.vfs or rule.each):
        yield (at / "numa").problem('found "strict" without VFs, allowed is with vfs: the node is theirs')


def _check_slots(rule: GuestRule, at: Location) -> Iterator[Problem]:
    """pcie.0 of QEMU's q35 has 32 slots, two of its own; virtio-rng and a screen take one each, every VF, too."""
    devices = len(rule.vfs) + bool(rule.each) + len(rule.disk) + len(rule.nic) + bool(rule.seed)
    screen = rule.vnc is not None or rule.vnc_remote is not None
    most = _MOST_DEVICES - screen
    if devices > most:
        text = f"found {devices} VFs, disks and NICs, allowed are {most}{' beside a screen' if screen else ''}"
        yield at.problem(f"{text}: the guest's machine has no more slots")
