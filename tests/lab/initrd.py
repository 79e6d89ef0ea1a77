# SPDX-License-Identifier: Apache-2.0
"""The VM's initrd: busybox, four drivers and one script, uncompressed."""

import lzma
from pathlib import Path

from tests.lab.debian import run_in

DRIVERS = ("virtio_pci", "virtio_blk", "virtio_net", "ext4")


def initrd(root: Path, kernel: str, init: str, drivers: tuple[str, ...] = DRIVERS) -> bytes:
    """A cpio archive, for this root's kernel."""
    modules = _module_paths(root, kernel, drivers)
    names = [f"lib/{Path(path).name.removesuffix('.xz')}" for path in modules]
    files = {name: _module(root / path.lstrip("/")) for name, path in zip(names, modules, strict=True)}
    files["modules"] = "\n".join(f"/{name}" for name in names).encode()
    files["bin/busybox"] = (root / "usr/bin/busybox").read_bytes()
    files["init"] = init.encode()
    return _cpio(files, ("bin", "lib", "dev", "proc", "sys", "root"))


def _module_paths(root: Path, kernel: str, drivers: tuple[str, ...]) -> list[str]:
    command = ["modprobe", "--set-version", kernel, "--show-depends", "--all", *drivers]
    lines = [line.split() for line in run_in(root, command).splitlines()]
    return list(dict.fromkeys(words[1] for words in lines if words[0] == "insmod"))


def _module(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def _cpio(files: dict[str, bytes], directories: tuple[str, ...]) -> bytes:
    entries = [_entry(name, 0o040755, b"") for name in directories]
    entries += [_entry(name, 0o100755, data) for name, data in files.items()]
    return b"".join([*entries, _entry("TRAILER!!!", 0, b"")])


def _entry(name: str, mode: int, data: bytes) -> bytes:
    """One member in the kernel's "newc" format."""
    fields = [0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
    header = b"070701" + b"".join(b"%08x" % field for field in fields)
    return _padded(header + name.encode() + b"\0") + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
