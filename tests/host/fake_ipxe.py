# SPDX-License-Identifier: Apache-2.0
"""A source tree with the layout of iPXE's, which builds valid ROM files in a moment."""

from pathlib import Path

MAKEFILE = """VERSION_MAJOR := 2
VERSION_MINOR := 0
VERSION_PATCH := 1
bin/%.rom: %.head $(EMBED) drivers/net/vf.c
\t@echo "  [BUILD] bin/vf.o"; echo built >>builds
\t@test ! -e broken || { echo "vf.c:7: error: no such thing"; exit 1; }
\t@mkdir -p bin; cat $< $(EMBED) >$@
"""
DRIVER = 'static struct pci_device_id vf[] = {\n\tPCI_ROM ( 0x8086, 0x10CA, "igbvf", "82576 VF", 0 ),\n};\n'


def rom(vendor: int = 0x8086, device: int = 0x10CA, kind: int = 0) -> bytes:
    """One image of 512 bytes, by the PCI firmware specification."""
    about = b"PCIR" + vendor.to_bytes(2, "little") + device.to_bytes(2, "little")
    about = about.ljust(0x10, b"\0") + b"\1\0\0\0" + bytes([kind, 0x80])
    return (b"\x55\xaa\1".ljust(0x18, b"\0") + b"\x1c\0\0\0" + about).ljust(512, b"\0")


def fake_ipxe(folder: Path, built: bytes | None = None) -> Path:
    (folder / "src/drivers/net").mkdir(parents=True)
    (folder / "src/Makefile").write_text(MAKEFILE)
    (folder / "src/drivers/net/vf.c").write_text(DRIVER)
    (folder / "src/808610ca.head").write_bytes(rom() if built is None else built)
    return folder
