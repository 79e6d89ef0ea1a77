# SPDX-License-Identifier: Apache-2.0
"""Builds the parts of a lab VM: QEMU, kernel modules and the VM's disk."""

import argparse
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.lab.cache import built, recipe_hash, say, sources
from tests.lab.debian import Root, bootstrap, install_commands, run_in
from tests.lab.initrd import DRIVERS, initrd

HERE = Path(__file__).parent
DISK_SIZE = "6G"

TOOLS = Root(
    suite="trixie",
    packages=("iproute2",),
    # The first QEMU whose virtio-net can be a PF is 10.1.
    backports=("qemu-system-x86", "qemu-utils", "seabios", "ipxe", "ipxe-qemu"),
    directories=("/lab/vm", "/lab/image", "/lab/warm"),
)

HOST_PACKAGES = (
    "linux-image-amd64",
    "systemd-sysv",
    "udev",
    "dbus",
    "libpam-systemd",
    "openssh-server",
    "busybox-static",
    "iproute2",
    "ethtool",
    "pciutils",
    "kmod",
    "procps",
    "strace",
    "python3",
    "python3-pyudev",
    "python3-pyroute2",
    "python3-systemd",
    "python3-tomli",
    "python3-prometheus-client",
    "python3-jeepney",
)

# Packages to run guests, and to serve their disks.
HYPERVISOR_PACKAGES = (
    "qemu-system-x86",
    "seabios",
    "ovmf",
    "ipxe",
    "python3-pycdlib",
    "systemd-container",
    "dosfstools",
    "make",
    "python3-apt",
)

LINUX_SOURCE = {"trixie": "linux-source-6.12", "bookworm": "linux-source-6.1"}
BUILD_PACKAGES = ("linux-headers-amd64", "gcc", "make", "kmod", "xz-utils")

MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "fstrim.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-pstore.service",
    "systemd-firstboot.service",
    "sshd-keygen.service",
    "getty@tty1.service",
    "ssh.service",
    "dev-mqueue.mount",
    "modprobe@configfs.service",
    "modprobe@drm.service",
    "modprobe@fuse.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "systemd-binfmt.service",
    "systemd-random-seed.service",
    "systemd-udev-load-credentials.service",
)

GENERATORS = ("gpt-auto", "hibernate-resume", "rc-local", "run", "ssh", "system-update", "sysv", "tpm2")


@dataclass(frozen=True, slots=True)
class Image:
    """The files that a VM boots."""

    directory: Path
    tools: Path
    root: Path

    @property
    def key(self) -> Path:
        return self.directory / "id_ed25519"


def tools() -> Path:
    """A root with QEMU."""
    return built("tools", asdict(TOOLS), _root_maker(TOOLS)) / "root"


def base(suite: str) -> Path:
    """The VM's root with its packages."""
    return _built_root("base", Root(suite, HOST_PACKAGES))


def _built_root(name: str, root: Root) -> Path:
    return built(f"{name}-{root.suite}", asdict(root), _root_maker(root)) / "root"


def kernel_of(root: Path) -> str:
    return next((root / "usr/lib/modules").iterdir()).name


def host(suite: str = "trixie") -> Image:
    """The VM's disk, kernel and initrd."""
    return _in_parallel("host", suite, lambda: base(suite))


def hypervisor(suite: str = "trixie") -> Image:
    """The disk of a host that can run guests. It is larger, so only some tests use it."""
    return host_with("hypervisor", Root(suite, (*HOST_PACKAGES, *HYPERVISOR_PACKAGES)))


def host_with(name: str, root: Root) -> Image:
    """A host's disk with these packages, which include HOST_PACKAGES."""
    return _in_parallel(name, root.suite, lambda: _built_root(f"{name}-base", root))


def _in_parallel(name: str, suite: str, packages: Callable[[], Path]) -> Image:
    """Builds the roots in parallel; the modules are built for the plain root's kernel."""
    install_commands()
    with ThreadPoolExecutor() as pool:
        roots = [pool.submit(make) for make in (packages, lambda: _build_root(suite), lambda: base(suite))]
        qemu = tools()
        root, *_ = [future.result() for future in roots]
    return _image(name, suite, root, qemu)


def _image(name: str, suite: str, root: Path, qemu: Path) -> Image:
    modules = kernel_modules(suite)
    recipe = {
        "root": root.parent.name,
        "modules": modules.name,
        "guest": sources(HERE / "guest"),
        "masked": (MASKED, GENERATORS),
        "drivers": DRIVERS,
        "disk": DISK_SIZE,
        "code": Path(__file__).read_text().partition("def _populate")[2],
    }
    directory = built(f"{name}-{suite}", recipe, lambda work: _host(root, modules, work))
    return Image(directory, qemu, root)


def _root_maker(root: Root) -> Callable[[Path], None]:
    return lambda work: bootstrap(root, work / "root")


def kernel_modules(suite: str) -> Path:
    """Modules that Debian does not ship, for the VM's kernel."""
    kernel = kernel_of(base(suite))
    recipe = {"build": asdict(_build(suite)), "kernel": kernel, "sources": sources(HERE / "modules")}
    return built(f"modules-{suite}", recipe, lambda work: _modules(suite, kernel, work))


def _build(suite: str) -> Root:
    return Root(suite, (*BUILD_PACKAGES, LINUX_SOURCE[suite]), directories=("/lab",))


def _build_root(suite: str) -> Path:
    root = _build(suite)
    return built(f"kbuild-{suite}", asdict(root), _root_maker(root)) / "root"


def _modules(suite: str, kernel: str, work: Path) -> None:
    build = _build_root(suite)
    if not (build / "usr/lib/modules" / kernel).exists():
        raise RuntimeError(f"{build} has no headers for {kernel}: remove it and try again")
    shutil.copytree(HERE / "modules", work / "source")
    run_in(build, ["sh", "/lab/source/build", kernel, LINUX_SOURCE[suite]], {work: "/lab"})
    shutil.rmtree(work / "source")


def _populate(root: Path, modules: Path, work: Path) -> str:
    """Turns a root with packages into the lab's."""
    kernel = kernel_of(root)
    shutil.copytree(HERE / "guest/root", root, dirs_exist_ok=True)
    updates = root / "usr/lib/modules" / kernel / "updates"
    shutil.copytree(modules, updates)
    _set_keys(root, work)
    (root / "etc/hostname").write_text("lab\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost lab\n")
    (root / "etc/machine-id").write_text(recipe_hash({"lab": 1}) * 2 + "1ab01ab0\n")
    (root / "etc/locale.conf").write_text("LANG=C.UTF-8\n")
    (root / "etc/fstab").write_text("")
    run_in(root, ["depmod", kernel])
    run_in(root, ["passwd", "--delete", "root"])
    run_in(root, ["systemctl", "mask", *MASKED])
    for name in GENERATORS:
        path = root / f"etc/systemd/system-generators/systemd-{name}-generator"
        path.parent.mkdir(exist_ok=True)
        path.symlink_to("/dev/null")
    run_in(root, ["systemctl", "enable", "lab-sshd.service"])
    for place in ("etc", "var"):
        (root / place / ".updated").touch()
    return kernel


def _set_keys(root: Path, work: Path) -> None:
    for path in (work / "id_ed25519", work / "host_key"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(path)]
        subprocess.run(command, check=True)
    (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    shutil.copy(work / "id_ed25519.pub", root / "root/.ssh/authorized_keys")
    for old in (root / "etc/ssh").glob("ssh_host_*"):
        old.unlink()
    (work / "host_key").rename(root / "etc/ssh/ssh_host_ed25519_key")
    (work / "host_key.pub").rename(root / "etc/ssh/ssh_host_ed25519_key.pub")


def _host(packages: Path, modules: Path, work: Path) -> None:
    root = work / "root"
    subprocess.run(["cp", "-a", "--reflink=auto", str(packages), str(root)], check=True)
    kernel = _populate(root, modules, work)
    archive = initrd(root, kernel, (HERE / "guest/init").read_text())
    (work / "initrd").write_bytes(archive)
    shutil.copy(root / f"boot/vmlinuz-{kernel}", work / "vmlinuz")
    for unused in (root / "boot").iterdir():
        if not unused.name.startswith("ipxe"):  # where Debian 12 has iPXE's image
            unused.unlink()

    command = ["mke2fs", "-q", "-t", "ext4", "-L", "root", "-m", "0", "-d", str(root)]
    subprocess.run([*command, str(work / "disk.raw"), DISK_SIZE], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(root)


def main() -> None:
    parser = argparse.ArgumentParser(description="Builds the lab's images that are not in the cache.")
    parser.add_argument("--suite", default="trixie", choices=sorted(LINUX_SOURCE))
    image = host(parser.parse_args().suite)
    say(f"image {image.directory}")
    say(f"tools {image.tools}")


if __name__ == "__main__":
    main()
