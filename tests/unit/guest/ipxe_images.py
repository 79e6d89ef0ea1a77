# SPDX-License-Identifier: Apache-2.0
"""Programs laid out as iPXE's build lays out its images, with a table of devices."""

import lzma
import struct
from collections.abc import Iterable

_FILTERS = ({"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA1, "lc": 2, "lp": 0, "pb": 0, "dict_size": 1 << 23})


def bios_image(devices: Iterable[str], *traces: bytes) -> bytes:
    """As ipxe.lkrn: a prefix with a boot sector, then everything else, packed."""
    names = b"\0".join((b"\0igbvf", *traces, b""))
    code = bytes(range(256)) * 400
    program = code + names
    program += bytes(-len(program) % 4)
    name = len(code) + 1
    for device in devices:
        vendor, _, number = device.partition(":")
        program += struct.pack("<IHHI", name, int(vendor, 16), int(number, 16), 0)
    prefix = (b"\xeb\x3c" + bytes(508) + b"\x55\xaa" + b"\0\0HdrS").ljust(4692, b"\x90")
    return prefix + lzma.compress(program, lzma.FORMAT_RAW, filters=_FILTERS)


def efi_image(devices: Iterable[str], *traces: bytes) -> bytes:
    """As ipxe.efi: a PE file, whose section begins elsewhere in memory than in the file."""
    at, address = 0x400, 0x1000
    body = b"\0".join((b"\0igbvf", *traces, b""))
    body += bytes(-len(body) % 8)
    for device in devices:
        vendor, _, number = device.partition(":")
        body += struct.pack("<QHHIQ", address + 1, int(vendor, 16), int(number, 16), 0, 0)
    head = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40)
    pe = b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, 0xF0, 0x206) + bytes(0xF0)
    section = struct.pack("<8sIIII16x", b".rodata", len(body), address, len(body), at)
    return (head + pe + section).ljust(at, b"\0") + body
