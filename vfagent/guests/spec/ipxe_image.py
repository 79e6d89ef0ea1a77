# SPDX-License-Identifier: Apache-2.0
"""What a built iPXE image can do: the devices that its drivers list, and what it was built with. Pure.

Distributions build different versions with different drivers, so the image itself is read, not its package's version.
"""

import lzma
import re
import struct
from collections.abc import Iterator
from enum import StrEnum
from itertools import islice

from vfagent.frozen import frozen
from vfagent.guests.spec.ipxe import DRIVERS

LONGEST_IMAGE = 16 << 20
_MOST_UNPACKED = 8 << 20
# The packed part begins behind the prefix, which has no field that says where, and is no larger than this.
_LONGEST_PREFIX = 32 << 10
_PIECE, _MOST_STREAMS = 64 << 10, 8
# As iPXE's src/util/zbin.c packs an image for BIOS: a bare LZMA stream of code for x86.
_FILTERS = (
    {"id": lzma.FILTER_X86},
    {"id": lzma.FILTER_LZMA1, "lc": 2, "lp": 0, "pb": 0, "dict_size": _MOST_UNPACKED},
)
# struct pci_device_id (src/include/ipxe/pci.h): a pointer to the name, vendor, device, and driver's data.
_ID32, _ID64 = struct.Struct("<IHHI"), struct.Struct("<QHHIQ")
_ALIGNED32, _ALIGNED64 = 4, 8
_NAME = re.compile(rb"[A-Za-z0-9][\w .,()/+-]{1,40}\0")
# The header of an EFI program (PE format): where the sections are in memory and in the file.
_SECTION = struct.Struct("<12xIII16x")
_MOST_SECTIONS = 64


class Ability(StrEnum):
    """What not every image can do, in words for the user."""

    SCRIPT = "run a script under UEFI"
    FILENAME = "boot a file of an iSCSI disk (sanboot --filename)"
    VLAN = "use a VLAN (vcreate)"


# A piece of an image that has it: efi_cmdline.c's name for the script, a setting, a command.
_TRACES = {Ability.SCRIPT: b"\0<CMDLINE>\0", Ability.FILENAME: b"\0san-filename\0", Ability.VLAN: b"\0vcreate\0"}


@frozen(slots=True)
class IpxeImage:
    """`devices`: vendor and device IDs."""

    devices: frozenset[str]
    abilities: frozenset[Ability]


UPSTREAM = IpxeImage(frozenset(DRIVERS), frozenset(Ability))
"""Assumed of an image that cannot be read."""


def image_of(content: bytes) -> IpxeImage | None:
    """Of a PE file or of one that BIOS boots; None where it is neither."""
    if content[:2] == b"MZ" and (sections := _sections(content)):
        return _image(content, frozenset(_listed(content, _ID64, _ALIGNED64, sections)))
    return next(filter(None, map(_of_unpacked, islice(_unpacked(content), _MOST_STREAMS))), None)


def _of_unpacked(program: bytes) -> IpxeImage | None:
    whole = ((0, 0, len(program)),)  # it is linked to address 0
    return _image(program, frozenset(_listed(program, _ID32, _ALIGNED32, whole)))


def _image(program: bytes, devices: frozenset[str]) -> IpxeImage | None:
    abilities = frozenset(ability for ability, trace in _TRACES.items() if trace in program)
    return IpxeImage(devices, abilities) if devices else None


_Sections = tuple[tuple[int, int, int], ...]


def _sections(content: bytes) -> _Sections:
    """Address, offset in the file and size of each section of a PE file."""
    if len(content) < 0x40:
        return ()
    (header,) = struct.unpack_from("<I", content, 0x3C)
    if content[header : header + 4] != b"PE\0\0" or len(content) < header + 24:
        return ()
    number, optional = struct.unpack_from("<6xH12xH", content, header)
    table = content[header + 24 + optional :][: _SECTION.size * min(number, _MOST_SECTIONS)]
    whole = table[: len(table) // _SECTION.size * _SECTION.size]
    return tuple((address, offset, size) for address, size, offset in _SECTION.iter_unpack(whole))


def _unpacked(content: bytes) -> Iterator[bytes]:
    """An LZMA stream begins with a byte 0. What is none nearly always ends soon, with an error or with too little."""
    for start in range(min(len(content), _LONGEST_PREFIX)):
        if content[start] == 0 and len(_decompressed(content, start, _PIECE)) == _PIECE:
            yield _decompressed(content, start, _MOST_UNPACKED)


def _decompressed(content: bytes, start: int, most: int) -> bytes:
    try:
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_FILTERS).decompress(content[start:], most)
    except lzma.LZMAError:
        return b""


def _listed(program: bytes, entry: struct.Struct, aligned: int, sections: _Sections) -> Iterator[str]:
    """Each aligned place that looks like an entry of a driver's table: its name is a text of the program."""
    for phase in range(0, entry.size, aligned):
        usable = (len(program) - phase) // entry.size * entry.size
        for name, vendor, device, *_ in entry.iter_unpack(memoryview(program)[phase : phase + max(usable, 0)]):
            if vendor in (0, 0xFFFF) or not 0 < name < LONGEST_IMAGE:
                continue
            if any(
                address <= name < address + size and _NAME.match(program, name - address + offset)
                for address, offset, size in sections
            ):
                yield f"{vendor:04x}:{device:04x}"
