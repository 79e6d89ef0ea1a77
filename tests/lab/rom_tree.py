# SPDX-License-Identifier: Apache-2.0
"""A small source tree that is built like iPXE's: its ROM prints a mark on the serial port."""

from tests.lab.payload import Content, Entry

SOURCE = "/usr/src/ipxe"
MARK = "lab: the ROM that was built runs"
# Commands that show the sandbox of the build to the test: its user, whether it may write to the tree, its interfaces.
SEEN = ("id -u", "touch /usr/src/ipxe/src/mine 2>&1", "ls /sys/class/net", "ls /dev/vfio /dev/vda 2>&1")

_PCIR, _ENTRY, _TEXT = 0x1C, 0x40, 0x80
# push ds; push cs; pop ds; mov si,TEXT; cld; next: lodsb; test al,al; jz end; mov ah,al; mov dx,0x3fd;
# wait: in al,dx; test al,0x20; jz wait; mov al,ah; mov dx,0x3f8; out dx,al; jmp next; end: pop ds; retf
_CODE = bytes.fromhex("1e0e1fbe8000fcac84c0741288c4bafd03eca82074fb88e0baf803eeebe91fcb")
_MAKEFILE = """VERSION_MAJOR := 2
VERSION_MINOR := 0
VERSION_PATCH := 0
bin/1af41041.rom: head $(EMBED)
\t@{{ {seen}; }} >&2; true
\t@mkdir -p bin; echo "  [BUILD] $@"; cat head $(EMBED) >$@
"""
_DRIVER = 'PCI_ROM ( 0x1af4, 0x1041, "virtio-net", "Virtio (modern)", 0 ),\n'


def _image() -> bytes:
    """An expansion ROM for a virtio VF, of one block, whose bytes sum up to zero."""
    about = b"PCIR" + bytes.fromhex("f41a4110 0000 1800 00 000002 0100 0000 00 80 0000")
    image = bytearray(512)
    jump = bytes([0xEB, _ENTRY - 5])
    for at, data in ((0, b"\x55\xaa\1" + jump), (0x18, bytes([_PCIR, 0])), (_PCIR, about), (_ENTRY, _CODE)):
        image[at : at + len(data)] = data
    text = f"{MARK}\r\n\0".encode()
    image[_TEXT : _TEXT + len(text)] = text
    image[-1] = -sum(image) & 0xFF
    return bytes(image)


def rom_tree() -> dict[str, Content]:
    makefile = _MAKEFILE.format(seen="; ".join(f"echo '{command}:' $$({command})" for command in SEEN))
    return {
        f"{SOURCE}/src/Makefile": Entry(makefile.encode()),
        f"{SOURCE}/src/head": Entry(_image()),
        f"{SOURCE}/src/drivers/net/virtio-net.c": Entry(_DRIVER.encode()),
        "/usr/local/bin/gcc": Entry(b"#!/bin/sh\nexit 1\n", 0o755),  # must exist, but is not used
    }
