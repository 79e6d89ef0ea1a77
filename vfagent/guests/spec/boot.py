# SPDX-License-Identifier: Apache-2.0
"""How a guest boots: which loader works with its VF, and the loader's input. Pure."""

from collections.abc import Iterator, Mapping
from enum import StrEnum

from vfagent.frozen import frozen
from vfagent.guests.spec.ipxe import script
from vfagent.guests.spec.ipxe_image import UPSTREAM, Ability, IpxeImage
from vfagent.guests.spec.rom import RomWish
from vfagent.policy.kernel_line import address_of_kernel, kernel_line
from vfagent.policy.references import standby_positions
from vfagent.policy.types import GuestRule, IpxeRule, KernelRule

# The files of package ipxe in Debian 12 and 13, by the guest's firmware.
IPXE_IMAGES = {"bios": "/usr/lib/ipxe/ipxe.lkrn", "uefi": "/usr/lib/ipxe/ipxe.efi"}
Images = Mapping[str, IpxeImage | None]
"""What the images of this host can do, by firmware; None where there is none."""

ASSUMED: Images = dict.fromkeys(IPXE_IMAGES, UPSTREAM)
VIRTIO_NET = "1af4:1041"  # on a port of PCI Express


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


def boot_of(rule: GuestRule, hardware: tuple[str, ...], images: Images, mac: str | None = None) -> Boot:
    """`hardware`: vendor and device IDs of the guest's VFs.

    `mac`: that of the first, or without VFs of the first NIC; "" where it has none, None where that is not known.
    """
    if not (rule.ipxe or rule.kernel):
        return Boot(Loader.DISK)
    if rule.ipxe:
        return _by_ipxe(rule, rule.ipxe, hardware, images, mac)
    return _by_kernel(rule, mac)


def _boot_devices(rule: GuestRule, hardware: tuple[str, ...]) -> list[str]:
    """In the order of the guest's PCI slots: iPXE boots through the first that it drives.

    QEMU hides a VF that has a standby, until the guest's own driver asks for it.
    """
    standby = [standby_positions(rule.vfs, nic.standby_for)[0] for nic in rule.nic if nic.standby_for is not None]
    shown = [device for number, device in enumerate(hardware) if number not in standby]
    return [*[VIRTIO_NET] * len(standby), *shown, *[VIRTIO_NET] * (len(rule.nic) - len(standby))]


def _others(rule: GuestRule) -> int:
    """How many NICs come after its VFs, and are none of theirs."""
    return sum(nic.standby_for is None for nic in rule.nic) if rule.vfs else 0


def _by_ipxe(rule: GuestRule, ipxe: IpxeRule, hardware: tuple[str, ...], images: Images, mac: str | None) -> Boot:
    text = None if ipxe.script else script(rule.name, ipxe, rule.chap)
    if ipxe.loader == "undionly":
        return Boot(Loader.ROM, problem="undionly uses the boot ROM of the NIC, and a VF has none")
    if ipxe.loader == "rom":
        first = hardware[0] if hardware else ""
        return Boot(Loader.ROM, text, rom=RomWish(first, rule.firmware, text, ipxe.script, ipxe.rom))
    image = images[rule.firmware]
    # Without an image, the guest's files say which package has it.
    devices = _boot_devices(rule, hardware)
    problem = next(_image_lacks(rule, devices, text or "", image), None) if image else None
    # A NIC beside the VFs is in another network than what the guest boots from, unless it stands in for one of them.
    elsewhere = image is not None and not image.devices.intersection(devices[: len(devices) - _others(rule)])
    own_script = rule.firmware == "uefi" and ipxe.script is not None  # which the image cannot run there
    if ipxe.loader == "auto" and rule.kernel and (problem or elsewhere or image is None or own_script):
        return _by_kernel(rule, mac)
    return Boot(Loader.IMAGE, text, problem=problem)


def _image_lacks(rule: GuestRule, devices: list[str], text: str, image: IpxeImage) -> Iterator[str]:
    """Why the image cannot boot the guest."""
    name, instead = f"iPXE's image {IPXE_IMAGES[rule.firmware]}", 'set guest.kernel, or loader "rom" with a newer iPXE'
    if not image.devices.intersection(devices):
        yield f"{name} has no driver for VFs {', '.join(dict.fromkeys(devices))}: {instead}"
    needs = {
        Ability.SCRIPT: rule.firmware == "uefi",
        Ability.FILENAME: "--filename" in text,
        Ability.VLAN: "vcreate" in text,
    }
    for ability, needed in needs.items():
        if needed and ability not in image.abilities:
            yield f"{name} cannot {ability}: {instead}"


def _by_kernel(rule: GuestRule, mac: str | None) -> Boot:
    kernel = rule.kernel
    if kernel is None:
        return Boot(Loader.KERNEL, problem="guest.kernel is not set")
    address = address_of_kernel(rule)
    several = len(rule.vfs) + len(rule.nic) > 1
    if several and mac == "" and address not in (None, "dhcp"):
        problem = f"its address {address} is for the first of its VFs, which has no MAC: set mac in its [[pf.vf]]"
        return Boot(Loader.KERNEL, problem=problem)
    return Boot(Loader.KERNEL, kernel=kernel, cmdline=kernel_line(rule, mac if several else None))
