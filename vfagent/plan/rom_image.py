# SPDX-License-Identifier: Apache-2.0
"""What a PCI expansion ROM says of itself: the device it is for, and the firmware that can run it. Pure."""

import struct

from vfagent.frozen import frozen

_BIOS, _EFI = 0, 3
# After "PCIR": vendor, device, two pointers, revision, class, image length, code revision, code type, indicator.
_HEADER = struct.Struct("<HHHHB3xHHBB")


@frozen(slots=True)
class RomImage:
    """One image of an expansion ROM (PCI Firmware Specification, 5.1)."""

    vendor: int
    device: int
    code: int  # what runs it: 0 BIOS, 3 EFI

    @property
    def hardware(self) -> str:
        return f"{self.vendor:04x}:{self.device:04x}"

    def runs_under(self, firmware: str) -> bool:
        return self.code == (_EFI if firmware == "uefi" else _BIOS)


def rom_images(content: bytes) -> tuple[RomImage, ...]:
    """The images in a ROM file, up to the last or to what is no image."""
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
