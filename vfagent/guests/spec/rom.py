# SPDX-License-Identifier: Apache-2.0
"""iPXE ROMs for VFs: which one a guest needs, its make target, and the unit that builds it. Pure."""

import hashlib
import re
import struct

from vfagent.frozen import frozen
from vfagent.guests.spec.untrusted import NO_BUS, UNTRUSTED_OUTPUT
from vfagent.model.guest_unit import Property, UnitSpec

_BIOS, _EFI = 0, 3
_CAP_DAC_OVERRIDE = 1
# After "PCIR": vendor, device, two pointers, revision, class, image length, code revision, code type, indicator.
_HEADER = struct.Struct("<HHHHB3xHHBB")


@frozen(slots=True)
class RomImage:
    """One image of an expansion ROM (PCI Firmware Specification, 5.1)."""

    vendor: int
    device: int
    code: int  # code type: 0 BIOS, 3 EFI

    @property
    def hardware(self) -> str:
        return f"{self.vendor:04x}:{self.device:04x}"

    def runs_under(self, firmware: str) -> bool:
        return self.code == (_EFI if firmware == "uefi" else _BIOS)


def rom_images(content: bytes) -> tuple[RomImage, ...]:
    """The images in a ROM file, up to the last one or to what is not an image."""
    images: list[RomImage] = []
    start = 0
    while content[start : start + 2] == b"\x55\xaa" and len(content) >= start + 0x1A:
        at = start + int.from_bytes(content[start + 0x18 : start + 0x1A], "little")
        if content[at : at + 4] != b"PCIR" or len(content) < at + 4 + _HEADER.size:
            break
        vendor, device, _list, _size, _revision, length, _code_revision, code, indicator = _HEADER.unpack_from(
            content, at + 4
        )
        images.append(RomImage(vendor, device, code))
        if indicator & 0x80 or not length:
            break
        start += length * 512
    return tuple(images)


BUILD_S = 1800.0
_NAME = "vfagent-rom-build"
_CACHES = f"/var/cache/private/{_NAME}"  # of CacheDirectory= with DynamicUser=, systemd.exec(5)
SCRIPT = "script.ipxe"
# Arguments: the source tree, the target, make's jobs. Object files are reused for the next script.
_BUILD = f"""set -eu
tree=$CACHE_DIRECTORY/tree
if [ ! -e "$tree/.whole" ]; then
    rm -rf "$tree"
    cp -R --preserve=timestamps "$1/src" "$tree"
    rm -rf "$tree"/bin "$tree"/bin-*
    touch "$tree/.whole"
fi
cp "$CREDENTIALS_DIRECTORY/{SCRIPT}" "$tree/{SCRIPT}"
make -C "$tree" -j"$3" EMBED={SCRIPT} "$2" >&2
cat "$tree/$2"
"""
# Argument: the cache to keep. rm follows no links.
_FORGET = f"""cd {_CACHES} && for cache in *; do [ "$cache" = "$1" ] || rm -rf -- "$cache"; done"""
# iPXE's largest object has 2 MiB, and a build's output 300 KiB; the compiler takes some 100 MiB for each job.
_LARGEST_FILE, _MEMORY, _TASKS = 64 << 20, 2 << 30, 512


@frozen(slots=True)
class RomWish:
    """`hardware`: the VF's vendor and device, `8086:10ca`. `file`: the user's own ROM, which is not built."""

    hardware: str
    firmware: str
    script: str | None = None
    script_file: str | None = None
    file: str | None = None

    @property
    def target(self) -> str:
        """The make target in iPXE's Makefile."""
        name = self.hardware.replace(":", "")
        return f"bin-x86_64-efi/{name}.efirom" if self.firmware == "uefi" else f"bin/{name}.rom"


@frozen(slots=True)
class RomFacts:
    """What is stored with a built ROM."""

    hardware: str
    firmware: str
    script: str  # its digest
    source: str
    version: str  # of the tree
    tree: str  # digest of the tree
    built_at: float
    size: int

    @property
    def key(self) -> str:
        return rom_key(self.hardware, self.firmware, self.script, self.tree)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def rom_key(hardware: str, firmware: str, script: str, tree: str) -> str:
    key = digest("\n".join((hardware, firmware, script, tree)).encode())
    return f"{hardware.replace(':', '')}-{firmware}-{key}"


def rom_defect(data: bytes, hardware: str, firmware: str) -> str | None:
    """Why this is not a ROM for that VF with that firmware."""
    images = rom_images(data)
    if not images:
        return "is not a PCI expansion ROM"
    if images[0].hardware != hardware:
        return f"is for {images[0].hardware}, and the VF is {hardware}"
    return None if any(image.runs_under(firmware) for image in images) else f"has no image for {firmware}"


def drivers_in(source: str) -> set[str]:
    """The devices that a source file of an iPXE driver lists."""
    listed = re.findall(r"PCI_ROM\s*\(\s*0x([0-9a-fA-F]{4})\s*,\s*0x([0-9a-fA-F]{4})\s*,", source)
    return {f"{vendor}:{device}".lower() for vendor, device in listed}


def build_unit(wish: RomWish, script: str, source: str, tree: str, jobs: int, into: str, log: str) -> UnitSpec:
    """The ROM goes to standard output, so that the unit may write to its own cache only.

    The unit's name has the tree's digest, and with it its user and its cache: what one tree builds, no other can reach.
    `script`: the file of root's that holds the script.
    """
    program = ["/bin/sh", "-c", _BUILD.replace("$", "$$"), "sh"]
    words = [*program, source.replace("$", "$$"), wish.target, str(jobs)]
    return UnitSpec(
        f"{_NAME}-{tree}.service",
        (
            Property("Description", "s", f"iPXE ROM {wish.target}"),
            Property("Type", "s", "oneshot"),
            Property("TimeoutStartUSec", "t", int(BUILD_S * 1e6)),
            Property("ExecStart", "a(sasb)", [(words[0], words, False)]),
            Property("LoadCredential", "a(ss)", [(SCRIPT, script)]),
            Property("StandardOutputFileToTruncate", "s", into),
            Property("StandardErrorFileToTruncate", "s", log),
            Property("CacheDirectory", "as", [f"{_NAME}/{tree}"]),
            Property("CacheDirectoryMode", "u", 0o700),
            Property("Environment", "as", ["LC_ALL=C"]),
            # Guests have priority.
            Property("Nice", "i", 10),
            Property("CPUWeight", "t", 20),
            Property("LimitFSIZE", "t", _LARGEST_FILE),
            Property("MemoryMax", "t", _MEMORY),
            Property("TasksMax", "t", _TASKS),
            Property("DynamicUser", "b", value=True),
            Property("CapabilityBoundingSet", "t", 0),
            *_sandbox(),
            Property("CollectMode", "s", "inactive-or-failed"),
        ),
    )


def forget_unit(tree: str) -> UnitSpec:
    """Removes the build caches of all trees but this one. They belong to other users, so root has to."""
    words = ["/bin/sh", "-c", _FORGET.replace("$", "$$"), "sh", tree]
    return UnitSpec(
        f"{_NAME}-forget.service",
        (
            Property("Description", "s", "Removes the build caches of other iPXE trees"),
            Property("Type", "s", "oneshot"),
            Property("ExecStart", "a(sasb)", [(words[0], words, False)]),
            Property("CapabilityBoundingSet", "t", 1 << _CAP_DAC_OVERRIDE),
            Property("ReadWritePaths", "as", [f"-{_CACHES}"]),
            *_sandbox(),
            Property("CollectMode", "s", "inactive-or-failed"),
        ),
    )


def _sandbox() -> tuple[Property, ...]:
    """A source tree is code: it gets no network, no devices and no capabilities."""
    names = ("Clock", "ControlGroups", "Hostname", "KernelLogs", "KernelModules", "KernelTunables")
    flags = (*(f"Protect{name}" for name in names), "LockPersonality", "NoNewPrivileges", "PrivateDevices")
    flags += ("PrivateNetwork", "PrivateTmp", "RestrictRealtime", "RestrictSUIDSGID")
    return (
        Property("UMask", "u", 0o077),
        Property("ProtectSystem", "s", "strict"),
        Property("ProtectHome", "s", "yes"),
        Property("ProtectProc", "s", "invisible"),
        Property("RestrictNamespaces", "t", 0),
        Property("RestrictAddressFamilies", "(bas)", (True, ["AF_UNIX"])),
        Property("SystemCallArchitectures", "as", ["native"]),
        NO_BUS,
        *UNTRUSTED_OUTPUT,
        *(Property(name, "b", value=True) for name in flags),
    )
