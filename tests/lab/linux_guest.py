# SPDX-License-Identifier: Apache-2.0
"""A Linux for guests: Debian's kernel, an initramfs with open-iscsi, and a disk with only an init."""

import gzip
import shutil
import struct
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.lab.cache import built, sources
from tests.lab.debian import Root, bootstrap, run_in
from tests.lab.image import kernel_of

MARK = "lab: Linux runs from LIO-ORG"
_HERE = Path(__file__).parent / "linux"
_ROOT = Root(
    "trixie", ("linux-image-amd64", "initramfs-tools", "open-iscsi", "busybox-static", "udev", "zstd"), (), ("/lab",)
)
_MODULES = ("igbvf", "sd_mod", "iscsi_tcp", "ext4", "crc32c_generic", "qemu_fw_cfg")
_CONF = "MODULES=list\nBUSYBOX=y\nCOMPRESS=gzip\n"
_DISK_SIZE = "16M"


@dataclass(frozen=True, slots=True)
class LinuxGuest:
    kernel: Path
    initrd: Path
    disk: Path


def linux_guest() -> LinuxGuest:
    root = built("linux-base", asdict(_ROOT), lambda work: bootstrap(_ROOT, work / "root")) / "root"
    recipe = {
        "root": root.parent.name,
        "files": sources(_HERE),
        "initramfs": (_MODULES, _CONF, _DISK_SIZE),
        "code": Path(__file__).read_text().partition("def _make")[2],
    }
    made = built("linux", recipe, lambda work: _make(root, work))
    return LinuxGuest(made / "vmlinux", made / "initrd", made / "disk")


def _make(packages: Path, work: Path) -> None:
    root = work / "root"
    subprocess.run(["cp", "-a", "--reflink=auto", str(packages), str(root)], check=True)
    _arrange(root)
    kernel = kernel_of(root)
    run_in(root, ["mkinitramfs", "-o", "/lab/initrd", kernel])
    (work / "initrd").write_bytes(_unpacked((root / "lab/initrd").read_bytes()))
    _unpack_kernel(root, (root / f"boot/vmlinuz-{kernel}").read_bytes())
    shutil.copy(root / "lab/vmlinux", work / "vmlinux")
    _make_disk(root / "usr/bin/busybox", work)
    shutil.rmtree(root)


def _unpacked(initrd: bytes) -> bytes:
    """Uncompressed, because an emulated guest on an emulated host unpacks slowly. An early cpio may come before it."""
    packed = initrd.index(b"\x1f\x8b\x08", max(initrd.find(b"TRAILER!!!"), 0))
    return initrd[:packed] + gzip.decompress(initrd[packed:])


def _unpack_kernel(root: Path, image: bytes) -> None:
    """For the same reason. The header has the payload's offset: Documentation/arch/x86/boot.rst."""
    setup = 512 * (image[0x1F1] + 1)
    offset, length = struct.unpack_from("<II", image, 0x248)
    (root / "lab/vmlinux.zst").write_bytes(image[setup + offset :][: length - 4])  # its size follows it
    run_in(root, ["zstd", "-dqf", "/lab/vmlinux.zst", "-o", "/lab/vmlinux"])


def _arrange(root: Path) -> None:
    # udev's coldplug takes as long as the kernel's boot; devtmpfs has the nodes, and the modules are listed.
    for udev in root.glob("usr/share/initramfs-tools/**/udev"):
        udev.unlink()
    place = root / "etc/initramfs-tools"
    (place / "conf.d/lab").write_text(_CONF)
    (place / "modules").write_text("\n".join(_MODULES) + "\n")
    for name, when in (("chap", "init-premount"), ("devices", "init-bottom")):
        shutil.copy(_HERE / name, place / "scripts" / when / name)
        (place / "scripts" / when / name).chmod(0o755)
    (root / "etc/iscsi/initiatorname.iscsi").write_text("InitiatorName=iqn.2016-01.com.example:nobody\n")


def _make_disk(busybox: Path, work: Path) -> None:
    """A root file system with only an init."""
    tree = work / "tree"
    for name in ("bin", "sbin", "dev", "proc", "sys", "run", "etc"):
        (tree / name).mkdir(parents=True)
    shutil.copy(busybox, tree / "bin/busybox")
    shutil.copy(_HERE / "init", tree / "sbin/init")
    (tree / "sbin/init").chmod(0o755)
    command = ["mke2fs", "-q", "-t", "ext4", "-m", "0", "-d", str(tree), str(work / "disk"), _DISK_SIZE]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(tree)
