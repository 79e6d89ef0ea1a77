# SPDX-License-Identifier: Apache-2.0
"""Whether a guest can reach what it boots from: its address, its iSCSI disk, its kernel's command line."""

import re
from collections.abc import Iterator

from vfagent.policy.iscsi import IscsiUrl, iscsi_url, iscsi_urls, variable
from vfagent.policy.kernel_line import OWN_INITIATOR, address_of_kernel, has_dracut, root_of, too_long
from vfagent.policy.problems import Problem, quoted
from vfagent.policy.references import INDEX_MARK, reaches
from vfagent.policy.source_locations import Location
from vfagent.policy.strings import LONGEST_COMMAND_LINE
from vfagent.policy.types import GuestRule, IpxeRule, KernelRule
from vfagent.policy.value_types import declared

_OWN_WORDS = (
    *("BOOTIF", "ip", "iscsi_initiator", "iscsi_target_ip", "iscsi_target_name", "iscsi_target_port"),
    *("netroot", "rd.iscsi.initiator"),
)
_IPXE_VARIABLE = re.compile(r"\$\{[a-z0-9/.:-]+\}")
_SCRIPT_REPLACES = ("sanboot", "address", "gateway", "dns", "initiator")


def check_ipxe(guest: GuestRule, rule: IpxeRule, at: Location) -> Iterator[Problem]:
    if rule.script:
        for name in _SCRIPT_REPLACES:
            if getattr(rule, name) is not None:
                text = f"found {name} with script, allowed is one of them: the script replaces {name}"
                yield (at / name).problem(text)
        if guest.firmware == "uefi" and not (rule.loader == "rom" or (rule.loader == "auto" and guest.kernel)):
            text = (
                "found a script with UEFI, which the distribution's iPXE image does not run, allowed is one with"
                ' loader = "rom", a kernel beside it, or address and sanboot instead'
            )
            yield (at / "script").problem(text)
        yield from _check_rom(rule, at)
        return
    if rule.address is None:
        yield (at / "address").problem(f"found nothing, allowed is {_allowed(IpxeRule, 'address')}")
    elif rule.sanboot is None and rule.address != "dhcp":
        yield (at / "sanboot").problem('found nothing, allowed is sanboot or script with an address that is not "dhcp"')
    yield from _check_neighbours(rule, rule.address, at)
    yield from _check_rom(rule, at)
    if rule.sanboot and not variable(rule.sanboot):
        yield from _check_servers(rule.sanboot, rule.address, rule.gateway, rule.dns, at / "sanboot")


def _check_rom(rule: IpxeRule, at: Location) -> Iterator[Problem]:
    if rule.rom and rule.loader != "rom":
        yield (at / "rom").problem(f'found a ROM with loader "{rule.loader}", allowed is a ROM with loader "rom"')


def check_kernel(guest: GuestRule, rule: KernelRule, at: Location) -> Iterator[Problem]:
    address = address_of_kernel(guest)
    yield from _check_neighbours(rule, address, at)
    if rule.root and address is None:
        yield (at / "address").problem(f"found nothing with root, allowed is {_allowed(KernelRule, 'address')}")
    booted = guest.ipxe.sanboot if guest.ipxe else None
    if booted and not rule.root and (name := variable(booted)):
        text = f"found nothing, and a kernel does not know {name} of ipxe.sanboot, allowed is a root without variables"
        yield (at / "root").problem(text)
    if root := root_of(guest):
        key = at / "root" if rule.root else at
        gateway, dns = (_own_or_ipxe(guest, rule, name) for name in ("gateway", "dns"))
        if rule.root or address != (guest.ipxe.address if guest.ipxe else None):
            yield from _check_servers(root, address, gateway, dns, key)
    yield from _check_family(guest, address, root, at)
    yield from _check_command_line(guest, rule, address, root, at / "cmdline")


def _own_or_ipxe(guest: GuestRule, rule: KernelRule, name: str) -> str | None:
    own: str | None = getattr(rule, name)
    return own or (getattr(guest.ipxe, name) if guest.ipxe else None)


def _check_neighbours(rule: IpxeRule | KernelRule, address: str | None, at: Location) -> Iterator[Problem]:
    if rule.gateway:
        yield from _check_gateway(rule.gateway, address, at)
    if rule.dns and address in (None, "dhcp"):
        yield (at / "dns").problem("found a name server without a fixed address, allowed is with one: DHCP names it")


def _check_gateway(gateway: str, address: str | None, at: Location) -> Iterator[Problem]:
    if address in (None, "dhcp"):
        yield (at / "gateway").problem("found a gateway without a fixed address, allowed is with one")
    elif (":" in gateway) != (":" in (address or "")):
        yield (at / "gateway").problem(f"found {quoted(gateway)}, allowed is an address of the same family as address")
    elif not reaches(address or "", gateway):
        yield (at / "gateway").problem(f"found {quoted(gateway)}, allowed is an address in the network of {address}")


def _check_servers(
    text: str, address: str | None, gateway: str | None, dns: str | None, at: Location
) -> Iterator[Problem]:
    """The servers of a fixed address: DHCP brings gateway and name server. Of several portals one is enough."""
    if address in (None, "dhcp") or INDEX_MARK in text:
        return
    web = re.match(r"https?://(?:\[([^\]]+)\]|([^/:]+))", text)
    disks = [IscsiUrl(web[1] or web[2], 0, "0", "")] if web else [iscsi_url(url) for url in iscsi_urls((text,))]
    reasons = [_unreachable(disk, address or "", gateway, dns) for disk in disks]
    if all(reasons):
        yield from (at.problem(reason) for reason in reasons[:1] if reason)


def _unreachable(disk: IscsiUrl, address: str, gateway: str | None, dns: str | None) -> str | None:
    server = quoted(disk.server)
    if disk.has_name and dns is None:
        allowed = 'allowed is an IP address, or a name with dns = "ADDRESS"'
        if re.fullmatch("[0-9a-fA-F]{1,4}", disk.server):
            allowed += "; one of IPv6 is written in brackets, [fd00::1]"
        return f"found the host name {server} and a fixed address without a name server, {allowed}"
    if disk.has_name:
        return None
    if (":" in disk.server) != (":" in address):
        return f"found {server}, allowed is a server of the same family as address, {address}"
    if gateway is None and ":" not in address and not reaches(address, disk.server):
        return f"found {server} outside the network of {address}, allowed is with a gateway"
    return None


def _check_family(guest: GuestRule, address: str | None, root: str | None, at: Location) -> Iterator[Problem]:
    """initramfs-tools splits `ip=` at each colon, and klibc's ipconfig has no IPv6."""
    if has_dracut(guest):
        return
    allowed = "allowed is IPv4, or an initramfs of dracut, which a word such as rd.neednet=1 in cmdline shows"
    if address and ":" in address:
        key = at / "address" if guest.kernel and guest.kernel.address else at
        yield key.problem(f"found {quoted(address)}, which initramfs-tools cannot give an interface, {allowed}")
    elif any(":" in iscsi_url(url.replace(INDEX_MARK, "0")).server for url in iscsi_urls((root,))):
        key = at / "root" if guest.kernel and guest.kernel.root else at
        yield key.problem(f"found an IPv6 server, which initramfs-tools cannot reach, {allowed}")


def _check_command_line(
    guest: GuestRule, rule: KernelRule, address: str | None, root: str | None, at: Location
) -> Iterator[Problem]:
    if (length := too_long(guest)) is not None:
        allowed = f"allowed are {LONGEST_COMMAND_LINE}: Linux drops the rest"
        yield at.problem(f"found a command line of {length} characters, {allowed}")
    if (match := _IPXE_VARIABLE.search(rule.cmdline)) is not None:
        yield at.problem(f"found {quoted(match[0])}, allowed is text: nothing replaces it on a kernel's command line")
    words = {word.partition("=")[0] for word in rule.cmdline.split() if "=" in word}
    for name in _OWN_WORDS:
        used = address is not None if name in ("BOOTIF", "ip") else root is not None
        if used and name in words:
            instead = "address" if name in ("BOOTIF", "ip") else "root"
            yield at.problem(f"found {name}= beside {instead}, from which vfagent makes it, allowed is one of them")


def check_initiator(rule: GuestRule, at: Location) -> Iterator[Problem]:
    """A name that the guest's own makes: RFC 3722 has no `_`."""
    booted = (rule.ipxe.sanboot if rule.ipxe else None, rule.kernel.root if rule.kernel else None)
    if "_" not in rule.name or not any(iscsi_urls(booted)):
        return
    by_ipxe = bool(rule.ipxe and rule.ipxe.sanboot and not rule.ipxe.initiator)
    by_kernel = bool(rule.kernel and not rule.kernel.initiator and not (rule.ipxe and rule.ipxe.initiator))
    if by_ipxe or by_kernel:
        made = quoted(OWN_INITIATOR + rule.name)
        allowed = "allowed is a name without _, or initiator"
        yield (at / "name").problem(
            f"found {quoted(rule.name)}, which makes {made}, and an iSCSI name has no _, {allowed}"
        )


def _allowed(of: type[IpxeRule] | type[KernelRule], name: str) -> str:
    return declared(of)[name].key.value_type.allowed
