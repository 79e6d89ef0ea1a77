# SPDX-License-Identifier: Apache-2.0
"""A kernel for the Multiboot protocol that halts: a guest that does nothing, and does not hear ACPI.

To wait in iPXE would cost the way there, and a poll: nested emulation makes minutes of that.
"""

import struct

_MAGIC, _FLAGS, _AT = 0x1BADB002, 0x10000, 0x100000
_HEADER = struct.pack("<8I", _MAGIC, _FLAGS, -(_MAGIC + _FLAGS) & 0xFFFFFFFF, _AT, _AT, 0, 0, _AT + 32)
HALT = _HEADER + bytes.fromhex("faf4ebfc")  # cli; again: hlt; jmp again
