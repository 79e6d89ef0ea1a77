# SPDX-License-Identifier: Apache-2.0
"""Checks between the keys of one [[guest]] rule."""

import re
from collections.abc import Iterator

from vfagent.policy import strings
from vfagent.policy.problems import Problem, quoted
from vfagent.policy.references import VfReference, reaches, vf_reference
from vfagent.policy.source_locations import Location
from vfagent.policy.strings import VNC_SOCKET
from vfagent.policy.types import GuestRule, IpxeRule, KernelRule
from vfagent.policy.value_types import declared

_MARK = "{index}"
_NAME = "[a-z0-9][a-z0-9_-]{0,31}"
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def check_guest(rule: GuestRule, at: Location) -> Iterator[Problem]:
    yield from _check_name(rule, at)
    yield from _index_marks(rule, at)
    if rule.each is None and not rule.vfs:
        yield (at / "vfs").problem("found no VF, allowed is at least one in vfs, or each")
    yield from _check_boot_methods(rule, at)
    yield from _check_firmware(rule, at)
    yield from _check_memory_max(rule, at)
    yield from _check_vnc(rule, at)
    if rule.chap and not (rule.ipxe or rule.kernel):
        yield (at / "chap").problem("found chap without an iSCSI disk, allowed is with ipxe or kernel")
    if rule.ipxe:
        yield from _check_ipxe(rule.ipxe, at / "ipxe")
        yield from _unique_address(rule, rule.ipxe.address, at / "ipxe" / "address")
    if rule.kernel:
        yield from _check_kernel(rule, rule.kernel, at / "kernel")
        yield from _unique_address(rule, rule.kernel.address, at / "kernel" / "address")


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
    for location, text in _marked_texts(rule, at):
        if rule.each is None and _MARK in text:
            yield location.problem(f"found {_MARK} without each, allowed is {_MARK} only with each")
    if not _makes_several(rule):
        return
    for name, display in (("vnc", rule.vnc), ("vnc_remote", rule.vnc_remote)):
        if display not in (None, VNC_SOCKET) and _MARK not in (display or ""):
            yield (at / name).problem(f"found one display for several guests, allowed is a display with {_MARK}")
    for number, disk in enumerate(rule.disk):
        if not disk.readonly and _MARK not in disk.path:
            text = f"found one writable disk for several guests, allowed is a path with {_MARK}, or readonly = true"
            yield (at / "disk" / number / "path").problem(text)


def _marked_texts(rule: GuestRule, at: Location) -> Iterator[tuple[Location, str]]:
    ipxe, kernel = rule.ipxe or IpxeRule(), rule.kernel or KernelRule(image="")
    for name, value in (("vnc", rule.vnc), ("vnc_remote", rule.vnc_remote), ("vnc_password", rule.vnc_password)):
        yield at / name, value or ""
    yield at / "ipxe" / "sanboot", ipxe.sanboot or ""
    yield at / "ipxe" / "script", ipxe.script or ""
    yield at / "kernel" / "cmdline", kernel.cmdline
    yield at / "kernel" / "root", kernel.root or ""
    if rule.chap:
        yield at / "chap" / "user", rule.chap.user
        yield at / "chap" / "secret", rule.chap.secret
    for number, disk in enumerate(rule.disk):
        yield at / "disk" / number / "path", disk.path
    for name in ("user_data", "meta_data", "network_config"):
        yield at / "seed" / name, getattr(rule.seed, name, None) or ""
    for name, value in rule.credentials:
        yield at / "credentials" / name, value


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


def _check_ipxe(rule: IpxeRule, at: Location) -> Iterator[Problem]:
    if rule.script:
        for name in ("sanboot", "address", "gateway"):
            if getattr(rule, name) is not None:
                text = f"found {name} with script, allowed is one of them: the script replaces {name}"
                yield (at / name).problem(text)
    elif rule.address is None:
        yield (at / "address").problem(f"found nothing, allowed is {_allowed(IpxeRule, 'address')}")
    elif rule.sanboot is None and rule.address != "dhcp":
        yield (at / "sanboot").problem('found nothing, allowed is sanboot or script with an address that is not "dhcp"')
    if rule.gateway and not rule.script:
        yield from _check_gateway(rule.gateway, rule.address, at)
    if rule.rom and rule.loader != "rom":
        yield (at / "rom").problem(f'found a ROM with loader "{rule.loader}", allowed is a ROM with loader "rom"')


def _check_kernel(guest: GuestRule, rule: KernelRule, at: Location) -> Iterator[Problem]:
    address = rule.address or (guest.ipxe.address if guest.ipxe else None)
    if rule.gateway:
        yield from _check_gateway(rule.gateway, address, at)
    if rule.root and address is None:
        yield (at / "address").problem(f"found nothing with root, allowed is {_allowed(KernelRule, 'address')}")


def _check_gateway(gateway: str, address: str | None, at: Location) -> Iterator[Problem]:
    if address in (None, "dhcp"):
        yield (at / "gateway").problem("found a gateway without a fixed address, allowed is with one")
    elif (":" in gateway) != (":" in (address or "")):
        yield (at / "gateway").problem(f"found {quoted(gateway)}, allowed is an address of the same family as address")
    elif not reaches(address or "", gateway):
        yield (at / "gateway").problem(f"found {quoted(gateway)}, allowed is an address in the network of {address}")


def _check_vnc(rule: GuestRule, at: Location) -> Iterator[Problem]:
    if rule.vnc is not None and rule.vnc_remote is not None:
        yield (at / "vnc_remote").problem("found vnc_remote with vnc, allowed is one of them")
    if rule.vnc_remote is not None and rule.vnc_password is None:
        text = f"found nothing with vnc_remote, allowed is {strings.PATH.allowed}: other hosts can open the screen"
        yield (at / "vnc_password").problem(text)
    if rule.vnc_password is not None and rule.vnc is None and rule.vnc_remote is None:
        yield (at / "vnc_password").problem("found a password without a screen, allowed is with vnc or vnc_remote")


def _allowed(of: type[IpxeRule] | type[KernelRule], name: str) -> str:
    return declared(of)[name].key.value_type.allowed


def _check_memory_max(rule: GuestRule, at: Location) -> Iterator[Problem]:
    for name, value in rule.unit:
        size = re.fullmatch("([0-9]+)([KMGT]?)", str(value)) if name == "MemoryMax" else None
        if size and int(size[1]) * _UNITS[size[2]] < rule.memory_mib << 20:
            text = f"found {quoted(str(value))}, allowed is more than the guest's memory, {rule.memory_mib}M"
            yield (at / "unit" / name).problem(text)
