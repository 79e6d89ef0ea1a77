# SPDX-License-Identifier: Apache-2.0
"""How a guest boots: which loader works with its VF, and the loader's input. Pure."""

import ipaddress
from collections.abc import Iterator, Mapping
from enum import StrEnum

from vfagent.frozen import frozen
from vfagent.guests.spec.ipxe import script
from vfagent.guests.spec.ipxe_image import UPSTREAM, Ability, IpxeImage
from vfagent.guests.spec.rom import RomWish
from vfagent.policy.types import GuestRule, IpxeRule, KernelRule

# The files of package ipxe in Debian 12 and 13, by the guest's firmware.
IPXE_IMAGES = {"bios": "/usr/lib/ipxe/ipxe.lkrn", "uefi": "/usr/lib/ipxe/ipxe.efi"}
Images = Mapping[str, IpxeImage | None]
"""What the images of this host can do, by firmware; None where there is none."""

ASSUMED: Images = dict.fromkeys(IPXE_IMAGES, UPSTREAM)
# iPXE's own naming authority and scheme, so that a target sees one initiator however its guest boots.
_INITIATOR = "iqn.2010-04.org.ipxe:"


class Loader(StrEnum):
    IMAGE = "iPXE image"
    ROM = "iPXE ROM"
    KERNEL = "kernel"
    DISK = "disk"


@frozen(slots=True)
class Boot:
    """`problem`: why the guest cannot boot with this policy."""

    loader: Loader
    script: str | None = None  # for iPXE, made from the policy
    kernel: KernelRule | None = None
    cmdline: str = ""
    rom: RomWish | None = None
    problem: str | None = None


@frozen(slots=True)
class IscsiUrl:
    """`iscsi:SERVER:PROTOCOL:PORT:LUN:TARGET`; omitted parts have iSCSI's defaults."""

    server: str
    port: int
    lun: str
    target: str


def iscsi_url(text: str) -> IscsiUrl:
    """Raises ValueError where server or target is missing."""
    rest = text.removeprefix("iscsi:")
    bracket = rest.startswith("[")
    server, _, rest = rest[1:].partition("]:") if bracket else rest.partition(":")
    parts = rest.split(":", 3)
    if len(parts) < 4 or not (server and parts[3]):
        raise ValueError(f"{text} names no server and target; it is iscsi:SERVER::::TARGET")
    return IscsiUrl(server, int(parts[1] or "3260"), parts[2] or "0", parts[3])


def boot_of(rule: GuestRule, hardware: tuple[str, ...], images: Images) -> Boot:
    """`hardware`: vendor and device IDs of the guest's VFs. It boots through the first."""
    if not (rule.ipxe or rule.kernel):
        return Boot(Loader.DISK)
    if rule.ipxe:
        return _by_ipxe(rule, rule.ipxe, hardware[0] if hardware else "", images)
    return _by_kernel(rule)


def _by_ipxe(rule: GuestRule, ipxe: IpxeRule, first: str, images: Images) -> Boot:
    text = None if ipxe.script else script(rule.name, ipxe, rule.chap)
    if ipxe.loader == "undionly":
        return Boot(Loader.ROM, problem="undionly uses the boot ROM of the NIC, and a VF has none")
    if ipxe.loader == "rom":
        return Boot(Loader.ROM, text, rom=RomWish(first, rule.firmware, text, ipxe.script, ipxe.rom))
    image = images[rule.firmware]
    # Without an image, the guest's files say which package has it.
    problem = next(_image_lacks(rule, first, text or "", image), None) if image else None
    if ipxe.loader == "auto" and rule.kernel and (problem or image is None):
        return _by_kernel(rule)
    if rule.firmware == "uefi" and ipxe.script:
        problem = (
            'with UEFI, iPXE\'s image cannot run your own script: set loader "rom", or address and sanboot instead'
        )
    return Boot(Loader.IMAGE, text, problem=problem)


def _image_lacks(rule: GuestRule, first: str, text: str, image: IpxeImage) -> Iterator[str]:
    """Why the image cannot boot the guest."""
    name, instead = f"iPXE's image {IPXE_IMAGES[rule.firmware]}", 'set guest.kernel, or loader "rom" with a newer iPXE'
    if first not in image.devices:
        yield f"{name} has no driver for VFs {first}: {instead}"
    needs = {
        Ability.SCRIPT: rule.firmware == "uefi",
        Ability.FILENAME: "--filename" in text,
        Ability.VLAN: "vcreate" in text,
    }
    for ability, needed in needs.items():
        if needed and ability not in image.abilities:
            yield f"{name} cannot {ability}: {instead}"


def _by_kernel(rule: GuestRule) -> Boot:
    kernel = rule.kernel
    if kernel is None:
        return Boot(Loader.KERNEL, problem="guest.kernel is not set")
    try:
        words = [*_network(rule, kernel), *_iscsi(rule, kernel)]
    except ValueError as error:
        return Boot(Loader.KERNEL, problem=str(error))
    return Boot(Loader.KERNEL, kernel=kernel, cmdline=" ".join((*words, kernel.cmdline)).strip())


def _network(rule: GuestRule, kernel: KernelRule) -> list[str]:
    """`ip=`, which the kernel, initramfs-tools and dracut read in the same way."""
    address = kernel.address or (rule.ipxe.address if rule.ipxe else None)
    if address in (None, "dhcp"):
        return ["ip=dhcp"] if address else []
    own = ipaddress.ip_interface(address or "")
    gateway = kernel.gateway or (rule.ipxe.gateway if rule.ipxe else None) or ""
    if own.version == 6:
        bracketed = f"[{gateway}]" if gateway else ""
        return [f"ip=[{own.ip}]::{bracketed}:{own.network.prefixlen}:{rule.name}::off"]
    return [f"ip={own.ip}::{gateway}:{own.netmask}:{rule.name}::off"]


def _iscsi(rule: GuestRule, kernel: KernelRule) -> list[str]:
    """The root disk for Debian's open-iscsi and for dracut; each ignores the other's parameters.

    Neither contains the secret: every user of the guest can read its command line.
    """
    booted = rule.ipxe.sanboot if rule.ipxe else None
    url = kernel.root or (booted if booted and booted.startswith("iscsi:") else None)
    if url is None:
        return []
    disk, initiator = iscsi_url(url), _INITIATOR + rule.name
    debian = {"initiator": initiator, "target_name": disk.target, "target_ip": disk.server, "target_port": disk.port}
    words = [f"iscsi_{key}={value}" for key, value in debian.items()]
    server = f"[{disk.server}]" if ":" in disk.server else disk.server
    dracut = f"netroot=iscsi:{server}::{disk.port}:{disk.lun}:{disk.target}"
    return [*words, dracut, f"rd.iscsi.initiator={initiator}"]
