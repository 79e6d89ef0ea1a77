# SPDX-License-Identifier: Apache-2.0
"""The files that a guest cannot start without. Pure: the caller says which files exist."""

from collections.abc import Callable, Iterator

from vfagent.guests.spec.boot import IPXE_IMAGES, Boot, Loader
from vfagent.guests.spec.qemu import QEMU
from vfagent.policy.types import GuestRule, SeedRule

PACKAGES = {QEMU: "qemu-system-x86"} | dict.fromkeys(IPXE_IMAGES.values(), "ipxe")


def files_of(rule: GuestRule, boot: Boot | None) -> Iterator[tuple[str, str]]:
    """Each path, and what it is for. `boot` is None while how it boots is not known."""
    if boot and boot.loader is Loader.IMAGE:
        yield IPXE_IMAGES[rule.firmware], "the iPXE image"
    if rule.ipxe and rule.ipxe.script:
        yield rule.ipxe.script, "its iPXE script"
    if rule.ipxe and rule.ipxe.rom and rule.ipxe.loader == "rom":
        yield rule.ipxe.rom, "its ROM"
    if rule.chap:
        yield rule.chap.secret, "its CHAP secret"
    if rule.vnc_password:
        yield rule.vnc_password, "its VNC password"
    yield from _seed_files(rule)
    if rule.kernel and (boot is None or boot.loader is Loader.KERNEL):
        yield rule.kernel.image, "its kernel"
        if rule.kernel.initrd:
            yield rule.kernel.initrd, "its initial RAM disk"
    for disk in rule.disk:
        yield disk.path, "its disk"
        yield from ((path, "what its disk is based on") for path in disk.backing)


def _seed_files(rule: GuestRule) -> Iterator[tuple[str, str]]:
    seed = rule.seed or SeedRule()
    values = [
        (seed.user_data, "its user data"),
        (seed.meta_data, "its metadata"),
        (seed.network_config, "its network configuration"),
        *((value, f"its credential {name}") for name, value in rule.credentials),
    ]
    yield from ((value, what) for value, what in values if value and value.startswith("/"))


def absent_file(rule: GuestRule, boot: Boot, exists: Callable[[str], bool]) -> tuple[str, str] | None:
    """The first missing file, and what to do. Devices are not checked: the service sees none (PrivateDevices=)."""
    for path, what in ((QEMU, "the emulator"), *files_of(rule, boot)):
        if not (path.startswith("/dev/") or exists(path)):
            return f"{path} ({what}) does not exist", what_to_do(path)
    return None


def what_to_do(path: str) -> str:
    package = PACKAGES.get(path)
    return f"apt install {package}" if package else "create it, or fix the path in the policy"
