# SPDX-License-Identifier: Apache-2.0
"""Multiboot kernels that halt, one of them after it has printed a mark: guests that do nothing and ignore ACPI.

Waiting in iPXE would take minutes in nested emulation.
"""

import struct

_MAGIC, _FLAGS, _AT = 0x1BADB002, 0x10000, 0x100000
_HEADER = struct.pack("<8I", _MAGIC, _FLAGS, -(_MAGIC + _FLAGS) & 0xFFFFFFFF, _AT, _AT, 0, 0, _AT + 32)
HALT = _HEADER + bytes.fromhex("faf4ebfc")  # cli; again: hlt; jmp again

MARK = "lab: the guest runs"
# cli; cld; mov esi,text; next: lodsb; test al,al; jz halt; mov ah,al; mov dx,0x3fd; wait: in al,dx; test al,0x20; jz
# wait; mov al,ah; mov dx,0x3f8; out dx,al; jmp next; halt: hlt; jmp halt
_TEXT_AT = _AT + len(_HEADER) + 35
SAY = (
    _HEADER
    + b"\xfa\xfc\xbe"
    + struct.pack("<I", _TEXT_AT)
    + bytes.fromhex("ac84c0741488c466bafd03eca82074fb88e066baf803eeebe7f4ebfd")
    + f"{MARK}\r\n\0".encode()
)
