# SPDX-License-Identifier: Apache-2.0
"""The files that a guest cannot start without. Pure: the caller says which files exist."""

from collections.abc import Callable, Iterator

from vfagent.frozen import frozen
from vfagent.guests.spec.boot import IPXE_IMAGES, Boot, Loader
from vfagent.guests.spec.packages import EMULATOR, IPXE, TPM
from vfagent.guests.spec.qemu import QEMU, SWTPM
from vfagent.policy.types import GuestRule, SeedRule

PACKAGES = {QEMU: EMULATOR, SWTPM: TPM} | dict.fromkeys(IPXE_IMAGES.values(), IPXE)


def files_of(rule: GuestRule, boot: Boot | None) -> Iterator[tuple[str, str]]:
    """Each path, and what it is for. `boot` is None while how it boots is not known."""
    if boot and boot.loader is Loader.IMAGE:
        yield IPXE_IMAGES[rule.firmware], "the iPXE image"
    if rule.tpm:
        yield SWTPM, "its TPM"
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


@frozen(slots=True)
class FileFacts:
    """`device`: where it leads to in /dev, by links. `users`: who may open it, as text."""

    kind: str  # "file", "folder" or "other"
    read: bool = True  # by QEMU, in the group kvm
    write: bool = True
    users: str = ""
    device: str | None = None


def opened_by_qemu(rule: GuestRule, boot: Boot) -> Iterator[tuple[str, str, bool]]:
    """Each path, what it is for, and whether it is written. What else a guest needs is copied by the service."""
    own = {path for disk in rule.disk for path in (disk.path, *disk.backing)}
    own |= {path for path in (rule.kernel and rule.kernel.image, rule.kernel and rule.kernel.initrd) if path}
    written = {disk.path for disk in rule.disk if not disk.readonly}
    yield from ((path, what, path in written) for path, what in files_of(rule, boot) if path in own)


def unfit_file(rule: GuestRule, boot: Boot, facts: Callable[[str], FileFacts | None]) -> tuple[str, str] | None:
    """The first file that is missing, or that QEMU cannot open, and what to do.

    Devices are not checked: the service sees none (PrivateDevices=).
    """
    for path, what in ((QEMU, "the emulator"), *files_of(rule, boot)):
        if not path.startswith("/dev/") and facts(path) is None:
            return f"{path} ({what}) does not exist", what_to_do(path)
    for path, what, written in opened_by_qemu(rule, boot):
        known = None if path.startswith("/dev/") else facts(path)
        if known is None or known.device:
            continue
        if known.kind != "file":
            return f"{path} ({what}) is a {known.kind}, not a file", "fix the path in the policy"
        if not known.read or (written and not known.write):
            verb, mode = ("written", "0660") if written else ("read", "0640")
            text = f"{path} ({what}) cannot be {verb} by QEMU: it is {known.users}"
            return text, f"chown root:kvm {path}; chmod {mode} {path}"
    return None


def what_to_do(path: str) -> str:
    packages = PACKAGES.get(path)
    return packages.hint if packages else "create it, or fix the path in the policy"
