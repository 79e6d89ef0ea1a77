# SPDX-License-Identifier: Apache-2.0
"""The command line of a guest's kernel: its address and its iSCSI disk, for initramfs-tools and dracut."""

import re
from collections.abc import Iterator

from vfagent.policy.iscsi import IscsiUrl, iscsi_url, iscsi_urls, variable
from vfagent.policy.strings import LONGEST_COMMAND_LINE
from vfagent.policy.types import GuestRule, KernelRule

# iPXE's own naming authority and scheme, so that a target sees one initiator however its guest boots.
OWN_INITIATOR = "iqn.2010-04.org.ipxe:"
_LONGEST_MAC = "00-00-00-00-00-00"


def initiator_of(rule: GuestRule) -> str:
    """By iPXE, where that boots it, and by its kernel."""
    own = (rule.ipxe and rule.ipxe.initiator) or None
    return own or OWN_INITIATOR + rule.name


def address_of_kernel(rule: GuestRule) -> str | None:
    own = rule.kernel.address if rule.kernel else None
    return own or (rule.ipxe.address if rule.ipxe else None)


def root_of(rule: GuestRule) -> str | None:
    """The iSCSI disk of the kernel's root file system; of iPXE's only one that a kernel can read."""
    if rule.kernel and rule.kernel.root:
        return rule.kernel.root
    booted = rule.ipxe.sanboot if rule.ipxe else None
    return booted if booted and booted.startswith("iscsi:") and not variable(booted) else None


def kernel_line(rule: GuestRule, mac: str | None) -> str:
    """`mac`: of the VF it boots through, None where that is not known."""
    kernel = rule.kernel
    if kernel is None:
        return ""
    words = [*_network(rule, kernel, mac), *_iscsi(rule, kernel)]
    return " ".join((*words, kernel.cmdline)).strip()


def too_long(rule: GuestRule) -> int | None:
    """The length of the longest line that the rule gives, where that is too much."""
    length = len(kernel_line(rule, _LONGEST_MAC if len(rule.vfs) + bool(rule.each) + len(rule.nic) > 1 else None))
    return length if length > LONGEST_COMMAND_LINE else None


def has_dracut(rule: GuestRule) -> bool:
    """Whether the rule shows that its initramfs is dracut's: by a word that no other knows, or by the file's name."""
    kernel = rule.kernel
    if kernel is None:
        return False
    name = (kernel.initrd or "").rpartition("/")[2]
    return bool(re.search(r"(?:^|\s)rd\.", kernel.cmdline)) or name.startswith(("initramfs-", "dracut"))


def _network(rule: GuestRule, kernel: KernelRule, mac: str | None) -> Iterator[str]:
    """`ip=` and `BOOTIF=`, which initramfs-tools and dracut read in the same way: the address is for that MAC alone."""
    address = address_of_kernel(rule)
    if address is None:
        return
    if mac:
        yield f"BOOTIF=01-{mac.replace(':', '-').lower()}"
    if address == "dhcp":
        yield "ip=dhcp"
        return
    import ipaddress  # only policies with addresses need it

    own = ipaddress.ip_interface(address)
    gateway = kernel.gateway or (rule.ipxe.gateway if rule.ipxe else None)
    dns = kernel.dns or (rule.ipxe.dns if rule.ipxe else None)
    mask = own.network.prefixlen if own.version == 6 else own.netmask
    words = [_bracketed(str(own.ip)), "", _bracketed(gateway), str(mask), rule.name, "", "off"]
    yield "ip=" + ":".join(words + ([_bracketed(dns)] if dns else []))


def _bracketed(address: str | None) -> str:
    return f"[{address}]" if address and ":" in address else address or ""


def _iscsi(rule: GuestRule, kernel: KernelRule) -> Iterator[str]:
    """The root disk for Debian's open-iscsi and for dracut; each ignores the other's parameters.

    Neither contains the secret: every user of the guest can read its command line. open-iscsi's initramfs takes one
    portal, dracut all of them.
    """
    disks = [iscsi_url(url) for url in iscsi_urls((root_of(rule),))]
    if not disks:
        return
    initiator = kernel.initiator or initiator_of(rule)
    first = disks[0]
    yield f"iscsi_initiator={initiator}"
    yield f"iscsi_target_name={first.target}"
    yield f"iscsi_target_ip={first.server}"
    yield f"iscsi_target_port={first.port}"
    yield from map(_netroot, disks)
    yield f"rd.iscsi.initiator={initiator}"


def _netroot(disk: IscsiUrl) -> str:
    return f"netroot=iscsi:{_bracketed(disk.server)}::{disk.port}:{disk.lun}:{disk.target}"
